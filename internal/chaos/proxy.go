//go:build linux

package chaos

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// proxy stands between the processes. Each has an address of its own on the
// loopback network, which it advertises and does not listen on: there the proxy
// does, for every port that the process or one of its workers opens. It knows who
// connects by the process table, so that it can cut, or stall in one direction,
// what two of them say to each other. Bytes that are stalled are not lost: TCP
// would send them again too. Gossip's datagrams are passed on, or dropped.
type proxy struct {
	nodes []*node
	group sync.WaitGroup

	mu struct {
		sync.Mutex
		conns map[*relay]bool
		// stalled are directions in which nothing passes, refused the pairs that
		// get no connection.
		stalled map[direction]chan struct{}
		refused map[direction]bool
	}
}

// node is one process with its workers, or the outlet.
type node struct {
	name, host string
	// pids are the processes that belong to it now.
	pids func() []int
	// fixed maps ports of a node without processes to where they lead.
	fixed map[int]string
}

type direction struct{ from, to string }

// relay is one connection through the proxy.
type relay struct {
	from, to string
	a, b     net.Conn
}

func newProxy(nodes []*node) *proxy {
	p := &proxy{nodes: nodes}
	p.mu.conns = map[*relay]bool{}
	p.mu.stalled = map[direction]chan struct{}{}
	p.mu.refused = map[direction]bool{}
	return p
}

// run opens and closes listeners as the processes do, until ctx ends.
func (p *proxy) run(ctx context.Context) {
	defer p.group.Wait()
	open := map[*node]map[string]func(){}
	for _, n := range p.nodes {
		open[n] = map[string]func(){}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var before []socket
	for ctx.Err() == nil {
		// The process table is looked at only when something has changed.
		if now := append(sockets("tcp", true), sockets("udp", false)...); !slices.Equal(before, now) {
			settled := true
			for _, n := range p.nodes {
				settled = p.follow(ctx, n, open[n], now) && settled
			}
			before = nil
			if settled {
				before = now
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	p.heal()
	p.cut(func(*relay) bool { return true })
	for _, all := range open {
		for _, end := range all {
			end()
		}
	}
}

// follow makes a node's listeners those that its processes have; false if one
// could not be opened yet.
func (p *proxy) follow(ctx context.Context, n *node, open map[string]func(), now []socket) bool {
	want := map[string]string{}
	for port, to := range n.fixed {
		want["tcp "+strconv.Itoa(port)] = to
	}
	if n.pids != nil {
		inodes := socketsOf(n.pids())
		for _, s := range now {
			if s.host == "127.0.0.1" && inodes[s.inode] {
				want[s.network+" "+strconv.Itoa(s.port)] = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
			}
		}
	}
	for what, end := range open {
		if want[what] == "" {
			end()
			delete(open, what)
		}
	}
	for what, to := range want {
		if open[what] != nil {
			continue
		}
		network, port, _ := strings.Cut(what, " ")
		at := net.JoinHostPort(n.host, port)
		var end func()
		var err error
		if network == "tcp" {
			end, err = p.listen(ctx, n, at, to)
		} else {
			end, err = p.packets(n, at, to)
		}
		if err == nil { // else the port is not free yet: the next look tries again
			open[what] = end
		}
	}
	return len(open) == len(want)
}

func (p *proxy) listen(ctx context.Context, n *node, at, to string) (func(), error) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	p.group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.group.Go(func() { p.relay(ctx, n, conn, to) })
		}
	})
	return func() { l.Close() }, nil
}

// relay carries one connection until one side ends it.
func (p *proxy) relay(ctx context.Context, n *node, conn net.Conn, to string) {
	defer conn.Close()
	from := ""
	if p.broken() { // else it is asked for when a fault needs to know
		from = p.owners()(conn.RemoteAddr())
	}
	p.mu.Lock()
	refused := p.mu.refused[direction{from, n.name}] || p.mu.refused[direction{n.name, from}]
	p.mu.Unlock()
	if refused || ctx.Err() != nil {
		return
	}
	d := net.Dialer{Timeout: time.Second}
	other, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer other.Close()
	r := &relay{from: from, to: n.name, a: conn, b: other}
	p.mu.Lock()
	p.mu.conns[r] = true
	p.mu.Unlock()
	done := make(chan struct{}, 2)
	go func() { p.carry(ctx, r, false, other, conn); done <- struct{}{} }()
	go func() { p.carry(ctx, r, true, conn, other); done <- struct{}{} }()
	<-done
	conn.Close()
	other.Close()
	<-done
	p.mu.Lock()
	delete(p.mu.conns, r)
	p.mu.Unlock()
}

// carry copies one direction and stands still while it is stalled.
func (p *proxy) carry(ctx context.Context, r *relay, back bool, to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		for wait := p.stall(r, back); wait != nil && ctx.Err() == nil; wait = p.stall(r, back) {
			select {
			case <-wait:
			case <-ctx.Done():
			}
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) stall(r *relay, back bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := direction{r.from, r.to}
	if back {
		d = direction{r.to, r.from}
	}
	if c := p.mu.stalled[d]; c != nil {
		return c
	}
	return nil
}

// packets passes datagrams on to a process. Its answers go to the sender's own
// advertised address, as gossip has it.
func (p *proxy) packets(n *node, at, to string) (func(), error) {
	in, err := net.ListenPacket("udp", at)
	if err != nil {
		return nil, err
	}
	out, err := net.Dial("udp", to)
	if err != nil {
		in.Close()
		return nil, err
	}
	p.group.Go(func() {
		b := make([]byte, 64<<10)
		for {
			k, _, err := in.ReadFrom(b)
			if err != nil {
				return
			}
			if !p.deaf(n.name) {
				_, _ = out.Write(b[:k]) // it is a datagram: lost if nobody is there
			}
		}
	})
	return func() { in.Close(); out.Close() }, nil
}

// deaf says that some direction towards a node is stalled: who sent a datagram is
// not known.
func (p *proxy) deaf(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d := range p.mu.stalled {
		if d.to == name {
			return true
		}
	}
	return false
}

// broken says that some fault is in force.
func (p *proxy) broken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.stalled)+len(p.mu.refused) > 0
}

// owners returns the node whose process has the socket at an address, as of now.
func (p *proxy) owners() func(net.Addr) string {
	of := map[string]string{} // node by inode
	for _, n := range p.nodes {
		if n.pids == nil {
			continue
		}
		for inode := range socketsOf(n.pids()) {
			of[inode] = n.name
		}
	}
	at := map[string]string{}
	for _, s := range sockets("tcp", false) {
		if name := of[s.inode]; name != "" && !s.listening {
			at[net.JoinHostPort(s.host, strconv.Itoa(s.port))] = name
		}
	}
	return func(a net.Addr) string {
		if name := at[a.String()]; name != "" {
			return name
		}
		return "run"
	}
}

// name finds out who opened the connections that there are.
func (p *proxy) name() {
	owner := p.owners()
	p.mu.Lock()
	defer p.mu.Unlock()
	for r := range p.mu.conns {
		if r.from == "" {
			r.from = owner(r.a.RemoteAddr())
		}
	}
}

// cut closes the connections that match and says how many there were.
func (p *proxy) cut(match func(*relay) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for r := range p.mu.conns {
		if match(r) {
			r.a.Close()
			r.b.Close()
			n++
		}
	}
	return n
}

// cutNode closes what a node has and refuses it new connections until heal.
func (p *proxy) cutNode(name string) int {
	p.mu.Lock()
	for _, n := range p.nodes {
		p.mu.refused[direction{name, n.name}] = true
	}
	p.mu.Unlock()
	p.name()
	return p.cut(func(r *relay) bool { return r.from == name || r.to == name })
}

// oneWay lets nothing pass from one node to another until heal.
func (p *proxy) oneWay(from, to string) {
	p.mu.Lock()
	if d := (direction{from, to}); p.mu.stalled[d] == nil {
		p.mu.stalled[d] = make(chan struct{})
	}
	p.mu.Unlock()
	p.name()
}

// heal lets everything pass again.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.mu.stalled {
		close(c)
	}
	clear(p.mu.stalled)
	clear(p.mu.refused)
}

// socket is one line of /proc/net.
type socket struct {
	network   string
	host      string
	port      int
	inode     string
	listening bool
}

// sockets reads the table of IPv4 sockets, in which those that listen come first.
func sockets(network string, listening bool) []socket {
	f, err := os.Open("/proc/net/" + network)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []socket
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local_address rem_address st ... inode is the tenth.
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		address, port, _ := strings.Cut(fields[1], ":")
		ip, err := hex.DecodeString(address)
		if err != nil || len(ip) != 4 {
			continue
		}
		n, err := strconv.ParseUint(port, 16, 16)
		if err != nil {
			continue
		}
		v := binary.LittleEndian.Uint32(ip)
		if listening && fields[3] != "0A" {
			break
		}
		all = append(all, socket{
			network: network,
			host:    fmt.Sprintf("%d.%d.%d.%d", byte(v>>24), byte(v>>16), byte(v>>8), byte(v)),
			port:    int(n), inode: fields[9], listening: fields[3] == "0A",
		})
	}
	return all
}

// socketsOf are the inodes of the sockets that processes hold.
func socketsOf(pids []int) map[string]bool {
	all := map[string]bool{}
	for _, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil {
				if inode, ok := strings.CutPrefix(to, "socket:["); ok {
					all[strings.TrimSuffix(inode, "]")] = true
				}
			}
		}
	}
	return all
}
