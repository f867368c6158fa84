// Package cluster finds the other processes of a cluster, by gossip: who is
// there, in which role, at which control address, and who says that it leads.
//
// What it tells are hints. A member may be listed that is gone, or the other
// way round; two may claim to lead. Ownership and leadership are decided in
// the bucket, never here.
//
// Join makes a member and Run keeps it in touch; Run belongs to one goroutine,
// all other methods may be called from any. A seed that does not answer is no
// error: Run tries again for ever while it is not among the members, so that
// one that was restarted finds everybody. A process that ends by Close says so and is dropped at once; one
// that dies is dropped within two seconds on a network of up to about ten
// members, somewhat later on a larger one. The package carries no messages of
// its users and never calls them back.
package cluster
