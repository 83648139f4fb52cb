package qtest

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Cases in real time mostly wait.
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// broker is a good broker, made of the embedded one.
type broker struct {
	name     string
	features Features
	options  []embedded.Option
	wrap     func(full) full // nil: as it is
}

const (
	maxBody   = 1 << 18
	maxPacked = (maxBody - 14) / 4 * 3 // see packs
)

// complete has all features but order.
var complete = Features{
	Visibility:     30 * time.Second,
	Extend:         true,
	Delay:          true,
	Attempts:       true,
	StaleHandle:    true,
	KeepID:         true,
	KeepSource:     true,
	SentAt:         true,
	Foreign:        true,
	EmptyBody:      true,
	MaxSize:        maxBody,
	Attributes:     10,
	AttributeSize:  1 << 16,
	EmptyAttribute: true,
	Faults:         true,
	Virtual:        true,
}

func change(f Features, by func(*Features)) Features {
	by(&f)
	return f
}

var (
	standard = broker{
		name:     "standard",
		features: complete,
		options:  []embedded.Option{embedded.WithMaxSize(maxBody)},
	}
	fifo = broker{
		name: "fifo",
		features: change(complete, func(f *Features) {
			f.Ordered, f.Dedup, f.MaxDelay = true, true, 5*time.Minute
		}),
		options: []embedded.Option{embedded.WithMaxSize(maxBody), embedded.WithFIFO()},
		wrap:    limitDelay(5 * time.Minute),
	}
	groupBatches = broker{
		name:     "fifo with batches of a group",
		features: change(complete, func(f *Features) { f.Ordered, f.Dedup, f.Messages = true, true, 1000 }),
		options:  []embedded.Option{embedded.WithMaxSize(maxBody), embedded.WithFIFO()},
		wrap: func(d full) full {
			return &tampered{full: d, limits: func(l *driver.Limits) { l.GroupBatches = true }}
		},
	}
	emitOnly = broker{
		name: "emit only",
		features: Features{
			EmitOnly: true, KeepID: true, KeepSource: true, EmptyBody: true, MaxSize: maxBody,
			Attributes: 3, AttributeSize: 200, Faults: true, Virtual: true,
		},
		wrap: packs,
	}
	listenOnly = broker{
		name: "listen only",
		features: change(complete, func(f *Features) {
			f.ListenOnly, f.Ordered = true, true
		}),
		options: []embedded.Option{embedded.WithFIFO()},
	}
	// modest is what a broker must be able to do at least.
	modest = broker{
		name:     "modest",
		features: Features{Virtual: true, Messages: 1000},
		options:  []embedded.Option{embedded.WithWait(0)},
		wrap: func(d full) full {
			return &tampered{full: d,
				send:    refuseEmpty(d),
				receive: forgetful(d),
				settle:  each(d.Settle, func(s *driver.Settlement) { s.Delay = 0 }),
			}
		},
	}
	// service runs in real time, as a broker elsewhere does.
	service = broker{
		name: "service",
		features: change(complete, func(f *Features) {
			f.Virtual, f.Parallel = false, true
			f.Visibility, f.Slack = 1500*time.Millisecond, 300*time.Millisecond
			f.Messages = 2000
		}),
		options: []embedded.Option{
			embedded.WithMaxSize(maxBody), embedded.WithVisibility(1500 * time.Millisecond), embedded.WithWait(2 * time.Second),
		},
	}
)

var brokers = []broker{standard, fifo, groupBatches, emitOnly, listenOnly, modest, service}

// open is the Open of a good broker, or of one that is broken by what breaks makes for
// a queue: a wrapper of each connection.
func (b broker) open(breaks func() func(full) full) Open {
	return func(t T) Queue {
		broken := func(d full) full { return d }
		if breaks != nil {
			broken = breaks()
		}
		queue, err := embedded.NewQueue(t.Name(), b.options...)
		if err != nil {
			t.Fatalf("NewQueue: %v", err)
		}
		var faults faultList
		connect := func() (full, error) {
			c, err := queue.Open()
			if err != nil {
				return nil, err
			}
			d := full(faults.wrap(c))
			if b.wrap != nil {
				d = b.wrap(d)
			}
			return broken(d), nil
		}
		q := Queue{
			Connect: func() (io.Closer, error) {
				d, err := connect()
				if err != nil {
					return nil, err
				}
				return expose(d, !b.features.ListenOnly, !b.features.EmitOnly, b.features.Extend), nil
			},
		}
		if b.features.Faults {
			q.Fail = faults.add
		}
		if b.features.EmitOnly {
			q.Drain = func(ctx context.Context) ([]driver.Bag, error) {
				d, err := connect()
				if err != nil {
					return nil, err
				}
				defer d.Close()
				bags, err := d.Receive(ctx, 10)
				return bags, errors.Join(err, d.Settle(context.WithoutCancel(ctx), acked(bags...)))
			}
		}
		if b.features.ListenOnly {
			q.Inject = func(ctx context.Context, bags []driver.Bag) error {
				d, err := connect()
				if err != nil {
					return err
				}
				defer d.Close()
				return d.Send(ctx, bags)
			}
		}
		return q
	}
}

// faults are failures that the embedded broker itself never has.
type faultList struct {
	mu   sync.Mutex
	next []Fault
}

func (f *faultList) add(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = append(f.next, fault)
}

func (f *faultList) take(op Op) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.next, func(fault Fault) bool { return fault.Op == op })
	if i < 0 {
		return Fault{}, false
	}
	fault := f.next[i]
	f.next = slices.Delete(f.next, i, i+1)
	return fault, true
}

func (f *faultList) wrap(d full) full {
	return &tampered{
		full: d,
		send: func(ctx context.Context, bags []driver.Bag) error {
			return hit(f, Send, bags, func(rest []driver.Bag) error { return d.Send(ctx, rest) })
		},
		receive: func(ctx context.Context, max int) ([]driver.Bag, error) {
			if fault, ok := f.take(Receive); ok {
				return nil, fault.err()
			}
			return d.Receive(ctx, max)
		},
		settle: func(ctx context.Context, s []driver.Settlement) error {
			return hit(f, Settle, s, func(rest []driver.Settlement) error { return d.Settle(ctx, rest) })
		},
	}
}

func hit[E any](f *faultList, op Op, entries []E, call func([]E) error) error {
	fault, ok := f.take(op)
	switch {
	case !ok:
		return call(entries)
	case fault.Entries == nil:
		return fault.err()
	}
	i := -1
	return pick(entries, func(E) error {
		if i++; slices.Contains(fault.Entries, i) {
			return fault.err()
		}
		return nil
	}, call)
}

func (f Fault) err() error {
	err := fmt.Errorf("broker: fault of %s", f.Op)
	if f.Permanent {
		return driver.Permanent(err)
	}
	return err
}

// tampered is a driver that differs from the one below by its hooks.
type tampered struct {
	full
	limits  func(*driver.Limits)
	send    func(ctx context.Context, bags []driver.Bag) error
	receive func(ctx context.Context, max int) ([]driver.Bag, error)
	settle  func(ctx context.Context, s []driver.Settlement) error
	extend  func(ctx context.Context, bags []*driver.Bag, d time.Duration) error
	close   func() error
}

func (t *tampered) Limits() driver.Limits {
	l := t.full.Limits()
	if t.limits != nil {
		t.limits(&l)
	}
	return l
}

func (t *tampered) Send(ctx context.Context, bags []driver.Bag) error {
	if t.send != nil {
		return t.send(ctx, bags)
	}
	return t.full.Send(ctx, bags)
}

func (t *tampered) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	if t.receive != nil {
		return t.receive(ctx, max)
	}
	return t.full.Receive(ctx, max)
}

func (t *tampered) Settle(ctx context.Context, s []driver.Settlement) error {
	if t.settle != nil {
		return t.settle(ctx, s)
	}
	return t.full.Settle(ctx, s)
}

func (t *tampered) Extend(ctx context.Context, bags []*driver.Bag, d time.Duration) error {
	if t.extend != nil {
		return t.extend(ctx, bags, d)
	}
	return t.full.Extend(ctx, bags, d)
}

func (t *tampered) Close() error {
	if t.close != nil {
		return t.close()
	}
	return t.full.Close()
}

// each changes the entries of a call.
func each[E any](call func(context.Context, []E) error, change func(*E)) func(context.Context, []E) error {
	return func(ctx context.Context, entries []E) error {
		changed := slices.Clone(entries)
		for i := range changed {
			change(&changed[i])
		}
		return call(ctx, changed)
	}
}

// received changes the bags that are received.
func received(d full, change func(*driver.Bag)) func(context.Context, int) ([]driver.Bag, error) {
	return func(ctx context.Context, max int) ([]driver.Bag, error) {
		bags, err := d.Receive(ctx, max)
		for i := range bags {
			change(&bags[i])
		}
		return bags, err
	}
}

func limitDelay(limit time.Duration) func(full) full {
	return func(d full) full {
		return &tampered{full: d, settle: each(d.Settle, func(s *driver.Settlement) { s.Delay = min(s.Delay, limit) })}
	}
}

// packs counts bodies as base64, and answers when a message may have arrived.
func packs(d full) full {
	size := func(bag *driver.Bag) int { return 14 + base64.StdEncoding.EncodedLen(len(bag.Body)) }
	check := func(bag *driver.Bag) error {
		if n := size(bag); n > maxBody {
			return driver.Permanent(fmt.Errorf("broker: %d bytes", n))
		}
		return nil
	}
	return &tampered{full: d,
		limits: func(l *driver.Limits) { l.Size, l.Check = size, check },
		send: func(ctx context.Context, bags []driver.Bag) error {
			defer pause(ctx, 20*time.Millisecond)
			return pick(bags, func(bag driver.Bag) error { return check(&bag) },
				func(rest []driver.Bag) error { return d.Send(ctx, rest) })
		},
	}
}

// forgetful tells nothing about a message but what every broker does.
func forgetful(d full) func(context.Context, int) ([]driver.Bag, error) {
	return received(d, func(bag *driver.Bag) {
		bag.ID = "broker-" + bag.ID
		bag.Source, bag.Attrs = "", nil
		bag.Attempt, bag.SentAt, bag.Lease = 0, time.Time{}, time.Time{}
	})
}

// refuseEmpty refuses empty bodies for good.
func refuseEmpty(d full) func(context.Context, []driver.Bag) error {
	return func(ctx context.Context, bags []driver.Bag) error {
		return pick(bags, func(bag driver.Bag) error {
			if len(bag.Body) == 0 {
				return driver.Permanent(errors.New("broker: the body is empty"))
			}
			return nil
		}, func(rest []driver.Bag) error { return d.Send(ctx, rest) })
	}
}

var update = flag.Bool("update", false, "write testdata/*.txt")

// TestBrokers runs the suite on good brokers, and pins what ran: no case may vanish.
func TestBrokers(t *testing.T) {
	for _, b := range brokers {
		t.Run(b.name, func(t *testing.T) {
			report := Run(t, b.open(nil), b.features)
			if len(report.Names(NotSelected)) > 0 || t.Failed() {
				return // go test -run has asked for some of them only
			}
			golden := filepath.Join("testdata", strings.ReplaceAll(b.name, " ", "-")+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(report.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := report.String(); got != string(want) {
				t.Errorf("other cases ran than %s lists; go test -update writes it.\ngot\n%s", golden, got)
			}
		})
	}
}
