package serverless_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// The test binary is a function that does as it is told, to show what a bad consumer or a
// bad broker makes of an invocation. The variable has a setup.
const envFunction = "SWARM_TEST_FUNCTION"

type setup struct {
	TimeToFlight   time.Duration
	NetworkTimeout time.Duration // of the emitter
	Attempts       int           // to send; default 3
	Window         int           // default 1
	Capacity       int
	Consumers      int  // of commands; default 4
	Letters        bool // dead letters are read
	Handled        bool // and that settles them
	Apart          bool // the emitter is outside of the barrier
}

// Command is what a record tells its consumer to do.
type Command struct {
	Do   string        `json:"do"`
	Name string        `json:"name,omitempty"`
	N    int           `json:"n,omitempty"`
	For  time.Duration `json:"for,omitempty"`
}

// Release ends what blocks.
type Release struct{}

// Out is what the function emits.
type Out struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

func function(raw string) {
	var s setup
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		panic(err)
	}
	s.Attempts, s.Window, s.Consumers = cmp.Or(s.Attempts, 3), cmp.Or(s.Window, 1), cmp.Or(s.Consumers, 4)
	var opts []swarm.Option
	if s.TimeToFlight > 0 {
		opts = append(opts, swarm.WithTimeToFlight(s.TimeToFlight))
	}
	in := swarm.Must(sqs.Listener().WithKernel(opts...).Build(""))
	opts = append(opts, swarm.WithEmitWindow(s.Window), swarm.WithEmitCapacity(s.Capacity), swarm.WithRetryConstant(10*time.Millisecond, s.Attempts))
	if s.NetworkTimeout > 0 {
		opts = append(opts, swarm.WithNetworkTimeout(s.NetworkTimeout))
	}
	if s.Handled {
		opts = append(opts, swarm.WithDeadLetterHandled())
	}
	if s.Apart {
		opts = append(opts, swarm.WithBarrier(swarm.NewBarrier()))
	}
	out := swarm.Must(sqs.Emitter().WithKernel(opts...).Build("target"))
	f := &obedient{held: map[string]swarm.Msg[Command]{}, release: make(chan struct{}), draining: make(chan struct{})}
	f.in, f.out = in, out
	enq, dlq := emit.Typed[Out](out)
	f.enq, f.sync = enq, emit.NewTyped[Out](out)
	if s.Letters {
		go func() {
			for x := range dlq {
				fmt.Printf("letter %s %d\n", x.Name, x.N)
			}
		}()
	}
	commands, ack := listen.Typed[Command](in)
	f.ack = ack
	for range s.Consumers {
		go func() {
			for msg := range commands {
				f.obey(msg)
			}
		}()
	}
	releases, released := listen.Typed[Release](in)
	go func() {
		for msg := range releases {
			close(f.release)
			released <- msg
		}
		close(f.draining)
	}()
	fmt.Println("ended:", swarm.Await(in, out))
}

type obedient struct {
	in                *kernel.Listener
	out               *kernel.Emitter
	enq               chan<- Out
	sync              *emit.Sync[Out]
	ack               chan<- swarm.Msg[Command]
	release, draining chan struct{}

	mu   sync.Mutex
	held map[string]swarm.Msg[Command]
}

func (f *obedient) obey(msg swarm.Msg[Command]) {
	c := msg.Object
	switch c.Do {
	case "fail":
		msg = msg.Fail(errors.New(c.Name))
	case "sleep":
		time.Sleep(c.For)
	case "block":
		<-f.release
	case "hold": // the consumer goes on without it
		f.mu.Lock()
		f.held[c.Name] = msg
		f.mu.Unlock()
		return
	case "late-ack", "late-fail":
		f.mu.Lock()
		late := f.held[c.Name]
		f.mu.Unlock()
		if c.Do == "late-fail" {
			late = late.Fail(errors.New("failed late"))
		}
		f.ack <- late
		time.Sleep(c.For) // time for it to do harm
	case "forge":
		f.ack <- swarm.Msg[Command]{}
		forged := msg
		forged.Digest = swarm.NewDigest(context.Background())
		f.ack <- forged
		f.ack <- forged.Fail(errors.New("forged"))
		time.Sleep(c.For)
		f.ack <- msg
		msg = msg.Fail(errors.New("a second time"))
	case "emit":
		for i := range c.N {
			f.enq <- Out{c.Name, i}
		}
	case "enq":
		for i := range c.N {
			if err := f.sync.Enq(msg.Context(), Out{c.Name, i}); err != nil {
				msg = msg.Fail(err)
				break
			}
		}
	case "close":
		go f.in.Close()
		<-f.draining
	case "close-emitter":
		f.enq <- Out{c.Name, 0}
		go f.out.Close()
	case "signal":
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			msg = msg.Fail(err)
		}
		<-f.draining
	}
	fmt.Printf("did %s %s\n", c.Do, c.Name)
	f.ack <- msg
}

// obey starts the test binary as the function, with a stub in place of AWS.
func obey(t testing.TB, s *stub, how setup, fn lambda.Function) *running {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fn.Command = []string{self}
	fn.Env = append(fn.Env, envFunction+"="+string(encode(how)), "AWS_ENDPOINT_URL="+s.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1")
	return start(t, fn)
}

// commands are records with the ids 0, 1, ….
func commands(c ...Command) (records []record) {
	for i, x := range c {
		records = append(records, record{ID: fmt.Sprint(i), Category: "Command", Body: string(encode(x))})
	}
	return records
}

func do(what string) Command { return Command{Do: what} }
