package sqs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/qtest/localstack"

	"github.com/fogfish/swarm/broker/sqs"
)

// A process that emits and consumes under load is killed. What it has told about each
// value until then, and what is left in the queue, has to add up.

// envVictim names the queue of a victim: the test binary, started again.
const envVictim = "SWARM_TEST_VICTIM"

func TestMain(m *testing.M) {
	if name := os.Getenv(envVictim); name != "" {
		os.Exit(victim(name))
	}
	os.Exit(m.Run())
}

// size is how many values were sent when the end comes.
func size() int {
	if soak {
		return 5000
	}
	return 500
}

// What is told about a value.
const (
	intent    = 'i' // about to be sent
	sent      = 's' // a channel has taken it
	confirmed = 'k' // a synchronous send has returned nil: the broker has it
	reported  = 'r' // it was refused, or not delivered, and the sender was told so
	consumed  = 'c' // processed, about to be acknowledged
	deleted   = 'd' // the broker has confirmed the acknowledgement
)

// ledger counts what was told, by value.
type ledger struct {
	mu    sync.Mutex
	value map[rune]map[int]int
	total map[rune]int
}

func newLedger() *ledger {
	return &ledger{value: map[rune]map[int]int{}, total: map[rune]int{}}
}

func (l *ledger) note(what rune, id int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.value[what] == nil {
		l.value[what] = map[int]int{}
	}
	l.value[what][id]++
	l.total[what]++
}

func (l *ledger) count(what rune) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total[what]
}

// busy reports that it is time for the end: much was sent, some of it consumed.
func (l *ledger) busy() bool {
	return l.count(sent)+l.count(confirmed) >= size() && l.count(consumed) >= size()/5
}

const (
	lanes   = 2
	callers = 4
	window  = 20
)

// sender of a value: a lane, 0 or 1, or a synchronous caller.
func sender(id int) int { return id % (lanes + callers) }

// watched tells which deletes the broker has confirmed.
type watched struct {
	*awssqs.Client
	note func(what rune, id int)
	ids  sync.Map // by receipt
}

func (w *watched) ReceiveMessage(ctx context.Context, in *awssqs.ReceiveMessageInput, opts ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	out, err := w.Client.ReceiveMessage(ctx, in, opts...)
	if err == nil {
		for _, m := range out.Messages {
			w.ids.Store(*m.ReceiptHandle, idOf(*m.Body))
		}
	}
	return out, err
}

func (w *watched) DeleteMessageBatch(ctx context.Context, in *awssqs.DeleteMessageBatchInput, opts ...func(*awssqs.Options)) (*awssqs.DeleteMessageBatchOutput, error) {
	out, err := w.Client.DeleteMessageBatch(ctx, in, opts...)
	if err != nil {
		return out, err
	}
	for _, x := range in.Entries {
		id, known := w.ids.LoadAndDelete(*x.ReceiptHandle)
		if known && slices.ContainsFunc(out.Successful, func(y types.DeleteMessageBatchResultEntry) bool { return *y.Id == *x.Id }) {
			w.note(deleted, id.(int))
		}
	}
	return out, nil
}

func idOf(body string) int {
	var n Note
	if err := json.Unmarshal([]byte(body), &n); err != nil {
		return -1
	}
	return n.ID
}

// load emits and consumes on a queue as fast as it can, until run returns, which ends
// the kernel. It tells about each value what it knows.
func load(cfg aws.Config, name string, log io.Writer, note func(what rune, id int), run func(*kernel.Endpoint) error) error {
	q, err := sqs.Endpoint().
		WithService(&watched{Client: awssqs.NewFromConfig(cfg), note: note}).
		WithWaitTime(time.Second).
		WithKernel(
			swarm.WithEmitWindow(window),
			swarm.WithPollerPool(2),
			swarm.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
			atOnce,
		).Build(name)
	if err != nil {
		return err
	}
	defer q.Close()
	group := emit.OrderBy(func(n Note) string { return strconv.Itoa(n.ID % 60) })

	var work, channels sync.WaitGroup
	var enqs []chan<- Note
	for lane := range lanes {
		// One producer stops when it is told to, the other one when it is refused.
		stop, refused := q.Done(), make(chan struct{})
		if lane > 0 {
			stop = refused
		}
		refuse := sync.OnceFunc(func() { close(refused) })
		enq, dlq := emit.Typed[Note](q, group, emit.OnFailure(func(n Note, _ error) {
			if n.ID >= 0 {
				note(reported, n.ID)
				refuse()
			}
		}))
		enqs = append(enqs, enq)
		channels.Go(func() {
			for range dlq { // OnFailure has told
			}
		})
		work.Go(func() {
			for id := lane; ; id += lanes + callers {
				note(intent, id)
				select {
				case enq <- Note{id}:
					note(sent, id)
				case <-stop:
					return
				}
			}
		})
	}
	one := emit.NewTyped[Note](q, group)
	for caller := range callers {
		work.Go(func() {
			for id := lanes + caller; ; id += lanes + callers {
				note(intent, id)
				err := one.Enq(context.Background(), Note{id})
				if err == nil {
					note(confirmed, id)
					continue
				}
				note(reported, id)
				if errors.Is(err, swarm.ErrClosed) {
					return
				}
			}
		})
	}
	deq, ack := listen.Typed[Note](q)
	for range 4 {
		work.Go(func() {
			for msg := range deq {
				time.Sleep(50 * time.Millisecond) // work: others wait for their turn
				if msg.Attempt == 1 && msg.Object.ID%10 == 0 {
					ack <- msg.Fail(nil)
					continue
				}
				note(consumed, msg.Object.ID)
				ack <- msg
			}
		})
	}
	err = run(q)
	ended := make(chan struct{})
	go func() {
		work.Wait()
		channels.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		return errors.Join(err, errors.New("producers, consumers or dlq do not end"))
	}
	// A channel refuses, and tells so, one value after the other: when it takes this
	// one, it has told of all before.
	for _, enq := range enqs {
		enq <- Note{-1}
		close(enq)
	}
	return err
}

// victim is the main function of the process that is killed. It writes what it knows
// as it goes, unbuffered: nothing that was written is lost with the process.
func victim(name string) int {
	go func() { // never outlive the parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	var out sync.Mutex
	note := func(what rune, id int) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(os.Stdout, "%c %d\n", what, id)
	}
	err := load(account(localstack.FromEnv()), name, os.Stderr, note, (*kernel.Endpoint).Await)
	if err != nil {
		fmt.Fprintln(os.Stderr, "victim:", err)
		return 1
	}
	return 0
}

// account is the configuration of [cloud], of an endpoint that is known to be there.
func account(endpoint string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider(localstack.Account("broker/sqs"), "test", ""),
	}
}

// process is a victim, seen by its parent.
type process struct {
	*exec.Cmd
	ledger *ledger
	told   chan struct{} // closed when all its output was read
	stderr bytes.Buffer
}

func start(t *testing.T, name string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), os.Args[0]), ledger: newLedger(), told: make(chan struct{})}
	p.Env = append(os.Environ(), envVictim+"="+name)
	p.Stderr = &p.stderr
	if _, err := p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.told)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var what rune
			var id int
			if _, err := fmt.Sscanf(lines.Text(), "%c %d", &what, &id); err != nil {
				t.Errorf("victim says %q", lines.Text())
				continue
			}
			p.ledger.note(what, id)
		}
	}()
	soon(t, "the victim is busy", func() bool {
		select {
		case <-p.told:
			_ = p.Wait()
			t.Fatalf("the victim has ended: %s\n%s", p.ProcessState, p.stderr.String())
		default:
		}
		return p.ledger.busy()
	})
	return p
}

// end signals the victim, and waits for its end.
func (p *process) end(t *testing.T, sig os.Signal) error {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.told:
	case <-time.After(patience):
		_ = p.Process.Kill()
		t.Fatalf("the victim does not end by %s: %v\n%s", sig, p.Wait(), p.stderr.String())
	}
	return p.Wait()
}

// rest drains the queue: what is left of the values, how often.
func rest(p plain) map[int]int {
	left := map[int]int{}
	soon(p.t, "the queue is empty", func() bool {
		for got := p.take(); len(got) > 0; got = p.take() {
			for _, m := range got {
				left[idOf(*m.Body)]++
			}
		}
		return p.empty()
	})
	return left
}

// reconcile checks a graceful end: each value the kernel was given is in the queue,
// or consumed, or reported, and only once.
func (l *ledger) reconcile(t *testing.T, left map[int]int) {
	t.Helper()
	inQueue := 0
	for _, n := range left {
		inQueue += n
	}
	accepted := l.count(sent) + l.count(confirmed)
	refused := 0
	for id := range l.value[reported] {
		if l.value[sent][id] == 0 { // a synchronous call that was refused
			refused++
		}
	}
	t.Logf("accepted %d + refused at once %d = in queue %d + consumed %d + reported %d",
		accepted, refused, inQueue, l.count(consumed), l.count(reported))
	if accepted+refused != inQueue+l.count(consumed)+l.count(reported) {
		t.Error("the ledger does not add up")
	}
	for id := range l.value[intent] {
		n := left[id] + l.value[consumed][id] + l.value[reported][id]
		given := l.value[sent][id] + l.value[confirmed][id] + min(1, l.value[reported][id])
		switch {
		case n == 0 && given > 0:
			t.Errorf("value %d of sender %d is lost", id, sender(id))
		case n > 1:
			t.Errorf("value %d of sender %d: in queue %d, consumed %d, reported %d", id, sender(id), left[id], l.value[consumed][id], l.value[reported][id])
		}
	}
	l.known(t, left)
}

// known checks that nothing is in the queue that nobody has sent.
func (l *ledger) known(t *testing.T, left map[int]int) {
	t.Helper()
	for id := range left {
		if l.value[intent][id] == 0 {
			t.Errorf("value %d in the queue was never sent", id)
		}
	}
}

// each runs a test for both kinds of queues. What the victim had in hand comes back
// after 5 s.
func each(t *testing.T, f func(t *testing.T, cfg aws.Config, name string, queue plain)) {
	t.Parallel()
	for kind, fifo := range map[string]bool{"standard": false, "fifo": true} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := cloud(t)
			name, url := create(t, cfg, fifo, map[string]string{"VisibilityTimeout": "5"})
			f(t, cfg, name, plainly(t, cfg, url))
		})
	}
}

// C5: SIGTERM drains, and nothing is lost or doubled.
func TestSIGTERMUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, _ aws.Config, name string, queue plain) {
		p := start(t, name)
		if err := p.end(t, syscall.SIGTERM); err != nil {
			t.Errorf("the victim has ended by %v\n%s", err, p.stderr.String())
		}
		p.ledger.reconcile(t, rest(queue))
	})
}

// C1: so does Close.
func TestCloseUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, cfg aws.Config, name string, queue plain) {
		l := newLedger()
		var log bytes.Buffer
		err := load(cfg, name, &log, l.note, func(q *kernel.Endpoint) error {
			var ran atomic.Pointer[error]
			go func() {
				err := q.Run(context.Background())
				ran.Store(&err)
			}()
			soon(t, "the kernel is busy", l.busy)
			err := q.Close()
			soon(t, "Run ends", func() bool { return ran.Load() != nil })
			return errors.Join(err, *ran.Load())
		})
		if err != nil {
			t.Errorf("close: %v\n%s", err, log.String())
		}
		l.reconcile(t, rest(queue))
	})
}

// A process that just dies loses what channels have accepted and the broker has not
// confirmed, a window a channel. Values the broker has confirmed are processed. Twice, if
// the process had them in hand: the broker had not confirmed that they were deleted.
func TestSIGKILLUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, _ aws.Config, name string, queue plain) {
		p := start(t, name)
		_ = p.end(t, syscall.SIGKILL)
		if status, ok := p.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("the victim has ended by %s\n%s", p.ProcessState, p.stderr.String())
		}
		l, left := p.ledger, rest(queue)

		lost, twice, unconfirmed := map[int]int{}, 0, 0
		for id := range l.value[intent] {
			present := left[id] + l.value[consumed][id]
			switch {
			case present == 0 && l.value[confirmed][id] > 0:
				t.Errorf("value %d was confirmed, and is lost", id)
			case present == 0 && l.value[sent][id] > 0:
				lost[sender(id)]++
			case left[id] > 1:
				t.Errorf("value %d is %d times in the queue", id, left[id])
			case left[id] > 0 && l.value[deleted][id] > 0:
				t.Errorf("value %d is back, although it was deleted", id)
			case present > 1:
				twice++
			}
			if l.value[consumed][id] > l.value[deleted][id] {
				unconfirmed++
			}
		}
		for sender, n := range lost {
			if n > window {
				t.Errorf("channel %d has lost %d values, its window is %d", sender, n, window)
			}
		}
		if twice > unconfirmed {
			t.Errorf("%d values twice, %d were in flight", twice, unconfirmed)
		}
		l.known(t, left)
		t.Logf("sent %d, confirmed %d, in queue %d, consumed %d; lost with the channels %v, acknowledgements in flight %d, twice %d",
			l.count(sent), l.count(confirmed), len(left), l.count(consumed), lost, unconfirmed, twice)
	})
}
