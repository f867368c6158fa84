package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start makes a member and runs it until the test ends.
func start(t *testing.T, config Config) *Cluster {
	t.Helper()
	c, err := Join(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

func names(members []Member) []string {
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
	}
	return names
}

// await looks at the members after each change until ok.
func await(t *testing.T, c *Cluster, within time.Duration, ok func([]Member) bool) time.Duration {
	t.Helper()
	began := time.Now()
	limit := time.After(within)
	for {
		members := c.Members()
		if ok(members) {
			return time.Since(began)
		}
		select {
		case <-c.Changes():
		case <-limit:
			t.Fatalf("after %v %s sees %+v", within, c.config.Name, members)
		}
	}
}

func sees(want ...string) func([]Member) bool {
	return func(members []Member) bool { return slices.Equal(names(members), want) }
}

func TestMembersFindEachOther(t *testing.T) {
	jm := start(t, Config{Name: "jm", Role: JobManager, Meta: Meta{ControlAddress: "10.0.0.1:8081", ClusterID: "c1", LeaderEpoch: 3}})
	seeds := []string{jm.GossipAddress()}
	a := start(t, Config{Name: "tm-a", Role: TaskManager, Seeds: seeds})
	b := start(t, Config{Name: "tm-b", Role: TaskManager, Seeds: seeds})
	for _, c := range []*Cluster{jm, a, b} {
		await(t, c, 10*time.Second, sees("jm", "tm-a", "tm-b"))
	}
	leader, ok := a.Leader()
	want := Member{Name: "jm", Role: JobManager, GossipAddress: jm.GossipAddress(),
		Meta: Meta{ControlAddress: "10.0.0.1:8081", ClusterID: "c1", LeaderEpoch: 3}}
	if diff := cmp.Diff(want, leader); !ok || diff != "" {
		t.Errorf("leader: (-want +got)\n%s", diff)
	}

	if err := jm.Update(Meta{ControlAddress: "10.0.0.1:8082", ClusterID: "c1", LeaderEpoch: 4}); err != nil {
		t.Fatal(err)
	}
	await(t, b, 10*time.Second, func(members []Member) bool {
		return members[0].LeaderEpoch == 4 && members[0].ControlAddress == "10.0.0.1:8082"
	})

	// One dies without a word, one leaves politely.
	if err := b.abandon(); err != nil {
		t.Fatal(err)
	}
	took := await(t, jm, 10*time.Second, sees("jm", "tm-a"))
	t.Logf("a dead member was seen after %v", took)
	if took > 2*time.Second {
		t.Errorf("a dead member was seen after %v, want at most 2s", took)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if took := await(t, jm, 10*time.Second, sees("jm")); took > time.Second {
		t.Errorf("a member that left was seen after %v", took)
	}
}

// A restarted process comes back at once, at another port.
func TestRestartedMemberComesBack(t *testing.T) {
	jm := start(t, Config{Name: "jm", Role: JobManager, Meta: Meta{LeaderEpoch: 1}})
	first := start(t, Config{Name: "tm", Role: TaskManager, Seeds: []string{jm.GossipAddress()}})
	await(t, jm, 10*time.Second, sees("jm", "tm"))
	first.abandon()
	second := start(t, Config{Name: "tm", Role: TaskManager, Seeds: []string{jm.GossipAddress()}})
	await(t, jm, 10*time.Second, func(members []Member) bool {
		return len(members) == 2 && members[1].GossipAddress == second.GossipAddress()
	})
}

func TestSeedMayComeLater(t *testing.T) {
	jm := start(t, Config{Name: "jm", Role: JobManager})
	address := jm.GossipAddress()
	jm.Close()
	tm := start(t, Config{Name: "tm", Role: TaskManager, Seeds: []string{address}})
	start(t, Config{Name: "jm", Role: JobManager, Bind: address})
	await(t, tm, 10*time.Second, sees("jm", "tm"))
}

// Two that see each other must not be content with that: the third comes back
// without a seed and knows nobody.
func TestRestartedSeedFindsAllOthers(t *testing.T) {
	jm := start(t, Config{Name: "jm", Role: JobManager})
	address := jm.GossipAddress()
	a := start(t, Config{Name: "tm-a", Role: TaskManager, Seeds: []string{address}})
	b := start(t, Config{Name: "tm-b", Role: TaskManager, Seeds: []string{address}})
	for _, c := range []*Cluster{jm, a, b} {
		await(t, c, 10*time.Second, sees("jm", "tm-a", "tm-b"))
	}
	if err := jm.abandon(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Cluster{a, b} {
		await(t, c, 10*time.Second, sees("tm-a", "tm-b"))
	}
	jm = start(t, Config{Name: "jm", Role: JobManager, Bind: address})
	for _, c := range []*Cluster{jm, a, b} {
		took := await(t, c, 10*time.Second, sees("jm", "tm-a", "tm-b"))
		t.Logf("%s saw everybody after %v", c.config.Name, took)
	}
}

// A seed that begins anew at once is found before gossip has given up what it was.
func TestHurryFindsASeedThatBeganAnew(t *testing.T) {
	jm := start(t, Config{Name: "jm-1", Role: JobManager, Meta: Meta{LeaderEpoch: 1}})
	address := jm.GossipAddress()
	tm := start(t, Config{Name: "tm", Role: TaskManager, Seeds: []string{address}})
	await(t, tm, 10*time.Second, sees("jm-1", "tm"))
	if err := jm.abandon(); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Name: "jm-2", Role: JobManager, Bind: address, Meta: Meta{LeaderEpoch: 2}})
	tm.Hurry()
	took := await(t, tm, 10*time.Second, func(all []Member) bool { return slices.Contains(names(all), "jm-2") })
	if !slices.Contains(names(tm.Members()), "jm-1") {
		t.Errorf("the new leader was seen after %v, only when the old one was given up", took)
	}
	if m, ok := tm.Leader(); !ok || m.Name != "jm-2" {
		t.Errorf("leader %v, want jm-2", m)
	}
}

// One of two seeds is away for good: the other one is enough, and the way back
// stays open.
func TestASeedThatIsMissingIsTriedAgain(t *testing.T) {
	gone := start(t, Config{Name: "gone", Role: JobManager})
	address := gone.GossipAddress()
	gone.Close()
	jm := start(t, Config{Name: "jm", Role: JobManager})
	tm := start(t, Config{Name: "tm", Role: TaskManager, Seeds: []string{address, jm.GossipAddress()}})
	await(t, tm, 10*time.Second, sees("jm", "tm"))
	start(t, Config{Name: "back", Role: JobManager, Bind: address})
	await(t, jm, 10*time.Second, sees("back", "jm", "tm"))
}

func TestOtherClustersAreNotListed(t *testing.T) {
	one := start(t, Config{Name: "one", Role: JobManager, Meta: Meta{ClusterID: "c1", LeaderEpoch: 9}})
	two := start(t, Config{Name: "two", Role: JobManager, Meta: Meta{ClusterID: "c2", LeaderEpoch: 1}, Seeds: []string{one.GossipAddress()}})
	three := start(t, Config{Name: "three", Role: TaskManager, Meta: Meta{ClusterID: "c2"}, Seeds: []string{one.GossipAddress()}})
	await(t, two, 10*time.Second, sees("three", "two"))
	await(t, three, 10*time.Second, sees("three", "two"))
	if leader, _ := three.Leader(); leader.Name != "two" {
		t.Errorf("leader of c2 is %q, want two", leader.Name)
	}
}

func TestJoinRefusesBadConfig(t *testing.T) {
	for name, config := range map[string]Config{
		"no name":      {Role: JobManager},
		"bad bind":     {Name: "x", Role: JobManager, Bind: "nowhere"},
		"too much":     {Name: strings.Repeat("x", 600), Role: JobManager},
		"no such host": {Name: "x", Role: JobManager, Bind: "no-such-host.invalid:0"},
	} {
		if c, err := Join(config); err == nil {
			c.Close()
			t.Errorf("%s: Join succeeded", name)
		}
	}
}

func TestGossipLogsOneLevelDown(t *testing.T) {
	var out bytes.Buffer
	logger := bridge(slog.New(slog.NewTextHandler(&out, nil)))
	logger.Print("[DEBUG] memberlist: chatter")
	logger.Print("[INFO] memberlist: chatter")
	logger.Print("[WARN] memberlist: odd")
	logger.Print("[ERR] memberlist: bad")
	text := out.String()
	if strings.Contains(text, "chatter") || !strings.Contains(text, `level=INFO msg=gossip detail=odd`) || !strings.Contains(text, `level=WARN msg=gossip detail=bad`) {
		t.Errorf("logged:\n%s", text)
	}
}
