package serverless_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// Tests of the clauses B1 to B5 against a real process under a real Runtime API. Names of
// faults, LB1 and so on, are those of the predecessor.

func TestLB4_ALateSettlementFailsNoOtherInvocation(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{TimeToFlight: 2 * time.Second}, lambda.Function{Instances: 1})
	fn.expect(commands(Command{Do: "hold", Name: "a"}, do("ack")), "0")
	fn.expect(commands(Command{Do: "late-fail", Name: "a"}, do("ack")))
	fn.expect(commands(Command{Do: "late-ack", Name: "a"}, do("fail")), "1") // its second one, too
	fn.healthy()
}

func TestLB5_ALateAcknowledgementOfTheSameMessageDoesNotEndItsRetry(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{TimeToFlight: 3 * time.Second}, lambda.Function{Instances: 1})
	fn.expect(commands(Command{Do: "hold", Name: "a"}), "0")
	began := time.Now()
	fn.expect(commands(Command{Do: "late-ack", Name: "a", For: 300 * time.Millisecond})) // the id is 0 again
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("answered after %s, before it was processed", took)
	}
	fn.healthy()
}

func TestLB7_AHungConsumerFailsItsOwnMessagesOnly(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{Consumers: 1}, lambda.Function{Instances: 1, Timeout: 6 * time.Second})
	release := record{ID: "r", Category: "Release", Body: "{}"}
	// No TimeToFlight: there is time to answer before Lambda kills the process; B2.
	fn.expect(commands(do("block"), do("ack"), do("ack")), "0", "1", "2")
	fn.expect(append(commands(do("ack")), release)) // healthy, as soon as its consumer is
	fn.expect(nil)
	fn.healthy()
}

func TestLB10_AConsumerHasTheTimeOfTheInvocation(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{}, lambda.Function{Instances: 1, Timeout: 30 * time.Second})
	fn.expect(commands(Command{Do: "sleep", For: 5300 * time.Millisecond}))
	fn.healthy()
}

func TestLB11_NothingToWaitFor(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{}, lambda.Function{Instances: 1})
	fn.expect(nil)
	for _, foreign := range []string{`{}`, `[]`, `7`, `"Records"`, `{"Records":7}`, `{"Records":[{}]}`, `{"Records":[7]}`, `{"Service":"Amazon S3","Event":"s3:TestEvent"}`} {
		began := time.Now()
		if _, err := fn.Invoke(t.Context(), []byte(foreign)); err == nil || !strings.Contains(err.Error(), "sqs: not an event of SQS") {
			t.Errorf("%s: %v", foreign, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %s", foreign, took)
		}
	}
	fn.expect(commands(do("ack")))
	fn.healthy()
}

// LB8, LB9, RX7: what cannot be read fails alone and at once, wherever it is.
func TestPoison(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{}, lambda.Function{Instances: 1})
	for _, poison := range []record{
		{Category: "binary", Body: "{}"},
		{Category: "Command", Body: "{"},
		{Category: "Command", Body: ""},
		{Category: "Unheard", Body: "{}"},
		{Category: "", Body: "{}"},
	} {
		for at := range 10 {
			batch := commands(slices.Repeat([]Command{do("ack")}, 10)...)
			poison.ID = batch[at].ID
			batch[at] = poison
			fn.expect(batch, poison.ID)
		}
	}
	if acks := len(fn.log.find(`(did ack)`)); acks != 5*10*9 {
		t.Errorf("%d neighbours were processed, want %d", acks, 5*10*9)
	}
	fn.healthy()
}

func TestLB13_ForgedSettlements(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{Consumers: 1}, lambda.Function{Instances: 1})
	fn.expect(commands(Command{Do: "forge", For: 100 * time.Millisecond}, do("fail"), do("ack")), "1")
	fn.healthy()
}

func TestB3_TheRestOfAGroupGoesBack(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{}, lambda.Function{Instances: 1})
	batch := commands(do("ack"), do("ack"), do("fail"), do("ack"), do("ack"), do("ack"))
	for i := range batch {
		batch[i].Group = []string{"a", "b"}[i%2]
	}
	fn.expect(batch, "2", "4")
	fn.healthy()
}

func TestB4_WhatWasEmittedIsConfirmedBeforeTheProcessIsFrozen(t *testing.T) {
	for name, how := range map[string]setup{
		"window of 1":   {},
		"window of 100": {Window: 100},
		"buffer":        {Capacity: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t)
			s.Fault = func(int) fault { return fault{Delay: 20 * time.Millisecond} }
			fn := obey(t, s, how, lambda.Function{Instances: 1, Freeze: true})
			for i := range 30 {
				fn.expect(commands(Command{Do: "emit", Name: "x", N: 3}, do("ack"), Command{Do: "emit", Name: "y", N: 2}))
				if n := len(s.took()); n != 5*(i+1) {
					t.Fatalf("invocation %d: frozen with %d of %d confirmed", i, n, 5*(i+1))
				}
			}
			fn.healthy()
		})
	}

	// The answer of the broker decides, and nothing else: without the barrier the process
	// is frozen with values on their way, which is how we know that the others were not.
	t.Run("not without the barrier", func(t *testing.T) {
		t.Parallel()
		s := newStub(t)
		hold := make(chan struct{})
		defer close(hold)
		s.Fault = func(int) fault { return fault{Until: hold} }
		fn := obey(t, s, setup{Capacity: 100, Apart: true}, lambda.Function{Instances: 1, Freeze: true})
		fn.expect(commands(Command{Do: "emit", Name: "x", N: 3}))
		if n := len(s.took()); n != 0 {
			t.Errorf("%d confirmed", n)
		}
	})

	t.Run("with it an invocation waits for the broker", func(t *testing.T) {
		t.Parallel()
		s := newStub(t)
		hold := make(chan struct{})
		s.Fault = func(int) fault { return fault{Until: hold} }
		fn := obey(t, s, setup{Capacity: 100}, lambda.Function{Instances: 1, Freeze: true})
		done := make(chan struct{})
		go func() {
			defer close(done)
			fn.expect(commands(Command{Do: "emit", Name: "x", N: 3}))
		}()
		soon(t, "a request, and the message acknowledged", func() bool { return s.requests() > 0 && len(fn.log.find("(did emit)")) > 0 })
		select {
		case <-done:
			t.Error("answered before the broker")
		default:
		}
		close(hold)
		<-done
		if n := len(s.took()); n != 3 {
			t.Errorf("%d confirmed", n)
		}
	})
}

func TestEM19_ARejectedValueFailsTheInvocation(t *testing.T) {
	for name, how := range map[string]setup{"read": {Letters: true}, "unread": {}, "handled": {Letters: true, Handled: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t)
			s.Fault = func(n int) fault { return fault{Refuse: n == 1} }
			fn := obey(t, s, how, lambda.Function{Instances: 1, Freeze: true})
			batch := commands(Command{Do: "emit", Name: "x", N: 1}, do("ack"))
			if how.Handled {
				fn.expect(batch)
			} else {
				fn.expect(batch, "0", "1")
			}
			// EM21: and no other one.
			for range 5 {
				fn.expect(batch)
			}
			if n := len(s.took()); n != 5 {
				t.Errorf("%d confirmed, want 5", n)
			}
			want := 0
			if how.Letters {
				want = 1
			}
			if n := len(fn.log.find("(letter x 0)")); n != want {
				t.Errorf("%d dead letters were read, want %d", n, want)
			}
			fn.healthy()
		})
	}
}

func TestEM20_AHungBrokerFailsTheInvocationThatEmitted(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	s.Fault = func(n int) fault {
		if n == 1 {
			return fault{Until: make(chan struct{})}
		}
		return fault{}
	}
	how := setup{TimeToFlight: 4 * time.Second, NetworkTimeout: 5 * time.Second, Attempts: 1, Letters: true}
	fn := obey(t, s, how, lambda.Function{Instances: 1, Freeze: true, Timeout: 20 * time.Second})
	fn.expect(commands(Command{Do: "emit", Name: "x", N: 1}, do("ack")), "0", "1")
	for range 3 {
		began := time.Now()
		fn.expect(commands(do("ack")))
		if took := time.Since(began); took > time.Second {
			t.Errorf("an invocation that emits nothing took %s", took)
		}
	}
	// One that emits waits until the request has ended that holds the window.
	fn.expect(commands(Command{Do: "emit", Name: "y", N: 2}))
	if n := len(s.took()); n != 2 {
		t.Errorf("%d confirmed", n)
	}
	fn.healthy()
}

func TestABrokerThatRecoversInTime(t *testing.T) {
	for name, f := range map[string]fault{"fails": {Status: 500}, "hangs": {Until: make(chan struct{})}, "is slow": {Delay: 200 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t)
			s.Fault = func(n int) fault {
				if n <= 2 {
					return f
				}
				return fault{}
			}
			fn := obey(t, s, setup{Attempts: 5, NetworkTimeout: 2 * time.Second}, lambda.Function{Instances: 1, Freeze: true})
			fn.expect(commands(Command{Do: "emit", Name: "x", N: 2}, do("ack")))
			if n := len(s.took()); n != 2 {
				t.Errorf("%d confirmed", n)
			}
			fn.healthy()
		})
	}
}

// EM22: the emitter is closed while an invocation waits for what it has sent.
func TestEM22_AnEmitterClosesDuringTheFlush(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	s.Fault = func(int) fault { return fault{Delay: 300 * time.Millisecond} }
	fn := obey(t, s, setup{}, lambda.Function{Instances: 1})
	began := time.Now()
	fn.expect(commands(Command{Do: "close-emitter", Name: "x"}))
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if n := len(s.took()); n != 1 {
		t.Errorf("%d confirmed", n)
	}
	fn.ends("<nil>")
}

// ends waits for the process to end by itself, with that result of Await, and shows that
// the next invocation has a new one.
func (r *running) ends(with string) {
	r.Helper()
	soon(r, "the end of the process", func() bool { return r.Stats().Crashes == 1 })
	if got := r.log.find(`(?m)ended: (.*)$`); !slices.Equal(got, []string{with}) {
		r.Errorf("Await returned %q", got)
	}
	r.expect(commands(do("ack")))
	if s := r.Stats(); s.ColdStarts != 2 || s.Timeouts != 0 {
		r.Errorf("got %+v", s)
	}
}

func TestSIGTERMDuringAnInvocation(t *testing.T) {
	for _, what := range []string{"signal", "close"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newStub(t)
			s.Fault = func(int) fault { return fault{Delay: 100 * time.Millisecond} }
			fn := obey(t, s, setup{Consumers: 1, Window: 10}, lambda.Function{Instances: 1})
			// What is with a consumer is finished, and what it has emitted is sent; the rest
			// goes back.
			failed := fn.records(commands(Command{Do: "emit", Name: "x", N: 3}, do(what), do("ack"), do("ack")))
			if !slices.Equal(failed, []string{"2", "3"}) {
				t.Errorf("failed %q", failed)
			}
			if n := len(s.took()); n != 3 {
				t.Errorf("%d confirmed", n)
			}
			fn.ends("<nil>")
		})
	}
}

func TestClosingTheRuntimeDuringAnInvocation(t *testing.T) {
	t.Parallel()
	fn := obey(t, newStub(t), setup{}, lambda.Function{Instances: 1})
	done := make(chan error)
	go func() {
		_, err := fn.Invoke(context.Background(), sqsEvent(commands(do("ack"), do("block"))))
		done <- err
	}()
	soon(t, "the invocation", func() bool { return len(fn.log.find("(did ack)")) > 0 })
	fn.Close()
	if err := <-done; !errors.Is(err, lambda.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// What a consumer sends by Enq with the context of its message has the trace of the
// invocation, also where invocations overlap.
func TestTrace(t *testing.T) {
	for _, concurrency := range []int{1, 4} {
		t.Run(fmt.Sprint("concurrency ", concurrency), func(t *testing.T) {
			t.Parallel()
			s := newStub(t)
			fn := obey(t, s, setup{Consumers: 16}, lambda.Function{Instances: 1, Concurrency: concurrency})
			const invocations = 50
			var all sync.WaitGroup
			for worker := range concurrency {
				all.Go(func() {
					for i := range invocations {
						trace := fmt.Sprintf("Root=1-%08x-%024x;Parent=%016x;Sampled=1", worker, i, i)
						c := Command{Do: "enq", Name: trace, N: 2}
						if failed := fn.records(commands(c, do("ack"), c, c), lambda.WithTraceID(trace)); len(failed) > 0 {
							t.Errorf("failed %q", failed)
						}
					}
				})
			}
			all.Wait()
			took := s.took()
			if len(took) != concurrency*invocations*6 {
				t.Errorf("%d messages, want %d", len(took), concurrency*invocations*6)
			}
			for _, m := range took {
				var out Out
				if err := json.Unmarshal([]byte(m.Body), &out); err != nil || m.Category != "Out" || m.Trace != out.Name {
					t.Fatalf("%s has the trace %q", m.Body, m.Trace)
				}
			}
			fn.healthy()
		})
	}
}
