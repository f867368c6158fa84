package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Role is what a process does.
type Role string

// The roles of a cluster.
const (
	JobManager  Role = "jobmanager"
	TaskManager Role = "taskmanager"
)

// Meta is what a member tells about itself; it may change with Update.
type Meta struct {
	// ControlAddress is host:port of the control RPC (job managers).
	ControlAddress string `json:"c,omitempty"`
	// ClusterID is the id in the bucket; empty before it is known. Members of
	// another cluster are not listed.
	ClusterID string `json:"i,omitempty"`
	// LeaderEpoch is the epoch in which a job manager leads; 0 when it does not.
	LeaderEpoch uint64 `json:"e,omitempty"`
}

// Member is one process.
type Member struct {
	Name string `json:"n"`
	Role Role   `json:"r"`
	Meta
	// GossipAddress is where it can be joined.
	GossipAddress string `json:"-"`
}

// Config of a member.
type Config struct {
	// Name is unique in the cluster and stays the same across restarts.
	Name string
	Role Role
	// Bind is host:port to listen on, UDP and TCP. Port 0 takes a free one;
	// the zero value is 127.0.0.1:0.
	Bind string
	// Advertise is the host, or host:port, at which others reach this member,
	// where that is not Bind.
	Advertise string
	// Seeds are gossip addresses of members to begin with.
	Seeds []string
	Meta  Meta
	// Logger is where problems go; nil discards them.
	Logger *slog.Logger
}

// maxMeta is what fits in a gossip packet; memberlist has the same limit.
const maxMeta = memberlist.MetaMaxSize

// Cluster is this process as a member.
type Cluster struct {
	config  Config
	list    *memberlist.Memberlist
	node    string // memberlist's name of this member
	changed chan struct{}
	hurry   chan struct{}
	mu      struct {
		sync.Mutex
		self Member
		// nodes are the members by memberlist's names, this one among them. It
		// is our own copy: what memberlist lists changes while it is read.
		nodes  map[string]Member
		closed bool
	}
}

// Join starts listening and makes this process a cluster of one; Run brings
// it together with others. Close must be called in the end.
func Join(config Config) (*Cluster, error) {
	c, err := join(config)
	if err != nil {
		return nil, fmt.Errorf("join cluster as %s %q: %w", config.Role, config.Name, err)
	}
	return c, nil
}

func join(config Config) (*Cluster, error) {
	if config.Name == "" || config.Role == "" {
		return nil, errors.New("a member needs a name and a role")
	}
	if config.Bind == "" {
		config.Bind = "127.0.0.1:0"
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{config: config, changed: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
	c.mu.nodes = map[string]Member{}
	c.mu.self = Member{Name: config.Name, Role: config.Role, Meta: config.Meta}
	if _, err := c.encodeSelf(); err != nil {
		return nil, err
	}
	gossip, err := c.gossipConfig()
	if err != nil {
		return nil, err
	}
	c.node = gossip.Name
	if c.list, err = memberlist.Create(gossip); err != nil {
		return nil, err
	}
	return c, nil
}

// gossipConfig tunes memberlist so that a death is known within two seconds:
// at most one probe interval a member until the dead one is probed, one until
// the probe has failed, then three of suspicion.
func (c *Cluster) gossipConfig() (*memberlist.Config, error) {
	gossip := memberlist.DefaultLANConfig()
	host, port, err := splitHostPort(c.config.Bind)
	if err != nil {
		return nil, fmt.Errorf("bind address %q: %w", c.config.Bind, err)
	}
	if gossip.BindAddr, err = lookup(host); err != nil {
		return nil, fmt.Errorf("bind address %q: %w", c.config.Bind, err)
	}
	gossip.BindPort, gossip.AdvertisePort = port, port
	if a := c.config.Advertise; a != "" {
		if host, port, err = splitHostPort(a); err != nil {
			host, port = a, gossip.BindPort
		}
		if gossip.AdvertiseAddr, err = lookup(host); err != nil {
			return nil, fmt.Errorf("advertised address %q: %w", a, err)
		}
		gossip.AdvertisePort = port
	}
	// A restarted process is a new node: it need not wait until its former
	// self, perhaps at another port, is forgotten.
	var run [4]byte
	rand.Read(run[:])
	gossip.Name = c.config.Name + "/" + hex.EncodeToString(run[:])
	gossip.ProbeInterval = 250 * time.Millisecond
	gossip.ProbeTimeout = 150 * time.Millisecond
	gossip.SuspicionMult = 3
	gossip.SuspicionMaxTimeoutMult = 1
	gossip.AwarenessMaxMultiplier = 2
	gossip.GossipInterval = 100 * time.Millisecond
	gossip.PushPullInterval = 10 * time.Second
	gossip.TCPTimeout = 2 * time.Second
	gossip.RequireNodeNames = false
	gossip.LogOutput = nil
	gossip.Logger = bridge(c.config.Logger)
	gossip.Delegate = delegate{c}
	gossip.Events = delegate{c}
	return gossip, nil
}

func splitHostPort(address string) (string, int, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	return host, int(port), err
}

// lookup turns a host into an IP address, which is all that gossip takes.
func lookup(host string) (string, error) {
	if host == "" {
		return "0.0.0.0", nil
	}
	if net.ParseIP(host) != nil {
		return host, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return "", err
	}
	for _, a := range found {
		if a.IP.To4() != nil {
			return a.IP.String(), nil
		}
	}
	return found[0].IP.String(), nil
}

const (
	// retry is how often a member looks for seeds that it does not see.
	retry = time.Second
	// again is how often it does where a seed answered and is still not seen:
	// the address is another name for a member, or the seed of no cluster of ours.
	again = 10 * time.Second
)

// Run joins the seeds until ctx ends, then it leaves as Close does. Seeds that
// are not among the members are tried again and again, so that one that comes
// back finds all others, though it has no seeds itself; so are all of them
// while no job manager is known.
func (c *Cluster) Run(ctx context.Context) error {
	defer c.Close()
	tick := time.NewTicker(retry)
	defer tick.Stop()
	failed := ""
	answered := map[string]time.Time{}
	seeds := c.missing(answered)
	for {
		for _, seed := range seeds {
			_, err := c.list.Join([]string{seed})
			if err == nil {
				failed, answered[seed] = "", time.Now()
			} else if err.Error() != failed {
				failed = err.Error() // say it once, not every second
				c.config.Logger.Warn("a seed does not answer, trying again", "seed", seed, "error", err)
			}
			if ctx.Err() != nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			seeds = c.missing(answered)
		case <-c.hurry:
			seeds = c.seeds()
		}
	}
}

// Hurry has Run join all seeds at once, members or not: one that does not answer
// may have begun anew, which gossip tells only when it has given the old one up.
func (c *Cluster) Hurry() {
	select {
	case c.hurry <- struct{}{}:
	default:
	}
}

// missing are the seeds to join now. answered says when each did last.
func (c *Cluster) missing(answered map[string]time.Time) []string {
	led := slices.ContainsFunc(c.Members(), func(m Member) bool { return m.Role == JobManager })
	return slices.DeleteFunc(c.seeds(), func(seed string) bool {
		if !led {
			return false
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, m := range c.mu.nodes {
			if m.GossipAddress == seed {
				return true
			}
		}
		return time.Since(answered[seed]) < again
	})
}

// Seed joins one more member now, for those who learn of it only later.
func (c *Cluster) Seed(address string) error {
	if _, err := c.list.Join([]string{address}); err != nil {
		return fmt.Errorf("join cluster at %s: %w", address, err)
	}
	return nil
}

// seeds are the configured ones without this member's own address.
func (c *Cluster) seeds() []string {
	self := c.GossipAddress()
	return slices.DeleteFunc(slices.Clone(c.config.Seeds), func(s string) bool { return s == self || s == "" })
}

// Close tells the others, waits shortly for the news to spread, and stops
// listening. Calls after the first do nothing.
func (c *Cluster) Close() error {
	c.mu.Lock()
	was := c.mu.closed
	c.mu.closed = true
	c.mu.Unlock()
	if was {
		return nil
	}
	leave := c.list.Leave(500 * time.Millisecond)
	if c.list.NumMembers() == 0 {
		leave = nil // nobody left to tell
	}
	return errors.Join(leave, c.list.Shutdown())
}

// abandon stops listening without a word, as a dying process does.
func (c *Cluster) abandon() error {
	c.mu.Lock()
	c.mu.closed = true
	c.mu.Unlock()
	return c.list.Shutdown()
}

// Update tells the others something new about this member.
func (c *Cluster) Update(meta Meta) error {
	c.mu.Lock()
	before := c.mu.self.Meta
	c.mu.self.Meta = meta
	c.mu.Unlock()
	if meta == before {
		return nil
	}
	if _, err := c.encodeSelf(); err != nil {
		c.mu.Lock()
		c.mu.self.Meta = before
		c.mu.Unlock()
		return fmt.Errorf("update member %s: %w", c.config.Name, err)
	}
	defer c.notify()
	// It fails only by not having spread in time; the next full exchange of
	// states carries it then.
	if err := c.list.UpdateNode(time.Second); err != nil {
		c.config.Logger.Info("news spreads slowly", "error", err)
	}
	return nil
}

// GossipAddress is where other members can join this one.
func (c *Cluster) GossipAddress() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.nodes[c.node].GossipAddress
}

// Changes delivers a token after members came, went or changed. Tokens do not
// queue: one says to look at Members again.
func (c *Cluster) Changes() <-chan struct{} { return c.changed }

func (c *Cluster) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Members returns this member and the others of its cluster, by name.
func (c *Cluster) Members() []Member {
	c.mu.Lock()
	self := c.mu.self
	self.GossipAddress = c.mu.nodes[c.node].GossipAddress
	members := []Member{self}
	for name, m := range c.mu.nodes {
		if name != c.node && (m.ClusterID == "" || self.ClusterID == "" || m.ClusterID == self.ClusterID) {
			members = append(members, m)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return members
}

// Leader returns the job manager that claims the highest epoch. The claim may
// be out of date.
func (c *Cluster) Leader() (Member, bool) {
	var leader Member
	for _, m := range c.Members() {
		if m.Role == JobManager && m.LeaderEpoch > leader.LeaderEpoch {
			leader = m
		}
	}
	return leader, leader.LeaderEpoch > 0
}

// encodeSelf is this member as gossip carries it.
func (c *Cluster) encodeSelf() ([]byte, error) {
	c.mu.Lock()
	self := c.mu.self
	c.mu.Unlock()
	data, err := json.Marshal(self)
	if err == nil && len(data) > maxMeta {
		err = fmt.Errorf("name, addresses and cluster id take %d bytes, gossip carries %d", len(data), maxMeta)
	}
	return data, err
}

// delegate answers memberlist on its goroutines; nothing here blocks.
type delegate struct{ c *Cluster }

func (d delegate) NodeMeta(limit int) []byte {
	data, err := d.c.encodeSelf()
	if err != nil || len(data) > limit {
		return nil
	}
	return data
}

func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// The nodes given here are stable only during the call.

func (d delegate) NotifyJoin(n *memberlist.Node)   { d.c.note(n) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.c.note(n) }

func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.c.mu.Lock()
	delete(d.c.mu.nodes, n.Name)
	d.c.mu.Unlock()
	d.c.notify()
}

// note takes over what a node says about itself. One that says nothing that we
// understand is not ours.
func (c *Cluster) note(n *memberlist.Node) {
	var m Member
	if json.Unmarshal(n.Meta, &m) != nil || m.Name == "" {
		return
	}
	m.GossipAddress = n.Address()
	c.mu.Lock()
	c.mu.nodes[n.Name] = m
	c.mu.Unlock()
	c.notify()
}
