package qtest

import (
	"context"
	"errors"
	"strings"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/listen"
)

func needsPartial(f FunctionFeatures) string {
	switch {
	case f.Whole:
		return "an answer for each message"
	case f.Single:
		return "several messages"
	}
	return ""
}

func needsWhole(f FunctionFeatures) string {
	if !f.Whole {
		return "Whole"
	}
	return ""
}

func needsOrdered(f FunctionFeatures) string {
	if !f.Ordered {
		return "Ordered"
	}
	return needsPartial(f)
}

var errBoom = errors.New("boom")

var functionCases = []functionCase{
	{"B1 content: bodies of any kind arrive unaltered, and outlive the invocation", nil, functionContent},
	{"B1 answer: names exactly the failed messages, when each is settled", needsPartial, functionExact},
	{"B1 answer: messages with one id are told apart", needsPartial, functionSameID},
	{"B1 concurrent: invocations do not mix, what comes back late settles nothing", nil, functionConcurrent},
	{"B2 hung: a consumer fails its own message before the deadline, the next invocation is served", nil, functionHung},
	{"B2 slow: a consumer has the time of the invocation", nil, functionSlow},
	{"B3 whole: the first failure fails the invocation at once, by its cause", needsWhole, functionWhole},
	{"B3 group: the failed message and the rest of its group, others go on", needsOrdered, functionGroup},
	{"B3 poison: what cannot be routed or decoded fails alone, and at once", needsPartial, functionPoison},
	{"B4 emit: what was emitted is confirmed before the answer", nil, functionEmits},
	{"B4 failure: a value that failed fails the invocation, and not the next", nil, functionEmitFails},
	{"B4 idle: nobody waits for an emitter that has nothing to do", nil, functionIdle},
	{"B5 empty: success at once", nil, functionEmpty},
	{"B5 foreign: a payload that is not the broker's is an error at once", nil, functionForeign},
	{"C1 Close: an open invocation gets its answer", nil, functionClose},
}

func functionContent(r *functionRig) {
	r.build()
	deq, ack := listen.Bytes(r.q, codec.Bytes("note"))
	r.start()
	var kept [][]byte
	go func() {
		for msg := range deq {
			kept = append(kept, msg.Object)
			ack <- msg
		}
	}()
	want := []string{`{"text":"plain"}`, "text", "\xff\x00\x80", strings.Repeat("x", 10_000), "{", "ä€"}
	for _, body := range want {
		bag := r.message(0)
		bag.Body = []byte(body)
		if a := r.invoke(time.Minute, bag); a.err != nil || a.failed[0] {
			r.Errorf("%.20q: failed, %v", body, a.err)
		}
	}
	synctest.Wait()
	for i := range min(len(kept), len(want)) {
		if string(kept[i]) != want[i] {
			r.Errorf("body %d: got %.20q, want %.20q", i, kept[i], want[i])
		}
	}
	if len(kept) != len(want) {
		r.Errorf("consumed %d, want %d", len(kept), len(want))
	}
}

func functionExact(r *functionRig) {
	r.build()
	r.consume(func(msg swarm.Msg[note]) error {
		time.Sleep(time.Second)
		if msg.Object.Text == "n-2" || msg.Object.Text == "n-5" {
			return errBoom
		}
		return nil
	})
	r.start()
	a := r.invoke(time.Minute, r.messages(8)...)
	for i := range 8 {
		if want := i != 2 && i != 5; a.ok(i) != want {
			r.Errorf("message %d: acknowledged %v, want %v (%v)", i, a.ok(i), want, a.err)
		}
	}
	if a.took != 8*time.Second {
		r.Errorf("answered after %s, its consumer took 8 s", a.took)
	}
}

func functionSameID(r *functionRig) {
	r.build()
	deq, ack := listen.Typed[note](r.q)
	r.start()
	bags := r.messages(3)
	for i := range bags {
		bags[i].ID = "same"
	}
	c := r.later(time.Minute, bags...)
	first := <-deq
	ack <- first
	ack <- first
	ack <- first
	synctest.Wait()
	if len(c) > 0 {
		r.Fatalf("answered when one of three was settled")
	}
	ack <- <-deq
	ack <- <-deq
	if a := r.wait("three with one id", c); a.err != nil || len(a.failed) > 0 {
		r.Errorf("failed %v, %v", a.failed, a.err)
	}
}

func functionConcurrent(r *functionRig) {
	r.build()
	deq, ack := listen.Typed[note](r.q)
	r.start()
	one := r.later(2*time.Second, r.message(1))
	late := <-deq
	if a := r.wait("hung", one); a.ok(0) {
		r.Errorf("an invocation whose consumer hangs succeeds")
	}
	two, three := r.later(time.Minute, r.message(2)), r.later(time.Minute, r.message(3))
	m2, m3 := <-deq, <-deq
	if m2.Object.Text != "n-2" {
		m2, m3 = m3, m2
	}
	ack <- late
	ack <- late.Fail(errBoom)
	synctest.Wait()
	if len(two) > 0 || len(three) > 0 {
		r.Fatalf("an invocation was answered by a message of another one")
	}
	ack <- m3.Fail(errBoom)
	if a := r.wait("the failed one", three); a.ok(0) {
		r.Errorf("an invocation whose message failed succeeds")
	}
	synctest.Wait()
	if len(two) > 0 {
		r.Fatalf("an invocation was failed by another one")
	}
	ack <- m2
	if a := r.wait("the good one", two); !a.ok(0) {
		r.Errorf("an invocation whose message was acknowledged fails: %v", a.err)
	}
}

func functionHung(r *functionRig) {
	r.build()
	deq, ack := listen.Typed[note](r.q)
	users, ackUsers := listen.Bytes(r.q, codec.Bytes("other"))
	r.start()
	go func() {
		for msg := range users {
			ackUsers <- msg
		}
	}()
	other := r.message(2)
	other.Category = "other"
	bags := []driver.Bag{r.message(1), other}
	if r.Single {
		bags = bags[:1]
	}
	c := r.later(20*time.Second, bags...)
	hung := <-deq
	a := r.wait("hung", c)
	if a.late {
		r.Errorf("answered at its deadline, not before")
	}
	if a.ok(0) {
		r.Errorf("a message that was not settled counts as processed")
	}
	if len(bags) > 1 && !r.Whole && !a.ok(1) {
		r.Errorf("a message that was acknowledged failed with another: %v", a.err)
	}
	go func() { ack <- <-deq }()
	if next := r.invoke(20*time.Second, r.message(3)); !next.ok(0) || next.took > time.Second {
		r.Errorf("the next invocation: failed %v, %v, after %s", next.failed, next.err, next.took)
	}
	ack <- hung
}

func functionSlow(r *functionRig) {
	r.build()
	r.consume(func(swarm.Msg[note]) error { time.Sleep(12 * time.Minute); return nil })
	r.start()
	if a := r.invoke(15*time.Minute, r.message(0)); !a.ok(0) || a.took != 12*time.Minute {
		r.Errorf("12 min of 15: failed %v, %v, after %s", a.failed, a.err, a.took)
	}
}

func functionWhole(r *functionRig) {
	r.build()
	deq, ack := listen.Typed[note](r.q)
	r.start()
	bags := r.messages(3)
	if r.Single {
		bags = bags[:1]
	}
	c := r.later(time.Minute, bags...)
	first := <-deq
	ack <- first.Fail(errBoom)
	a := r.wait("failed", c)
	if a.err == nil || !strings.Contains(a.err.Error(), errBoom.Error()) {
		r.Errorf("got %v, want the cause", a.err)
	}
	if a.took > time.Second {
		r.Errorf("failed after %s", a.took)
	}
}

func functionGroup(r *functionRig) {
	r.build()
	var handed []string
	r.consume(func(msg swarm.Msg[note]) error {
		handed = append(handed, msg.Object.Text)
		if msg.Object.Text == "n-2" {
			return errBoom
		}
		return nil
	})
	r.start()
	bags := r.messages(8)
	for i := range bags {
		bags[i].Group = []string{"a", "b"}[i%2]
	}
	a := r.invoke(time.Minute, bags...)
	for i := range bags {
		if want := i%2 == 1 || i < 2; a.ok(i) != want {
			r.Errorf("message %d: acknowledged %v, want %v (%v)", i, a.ok(i), want, a.err)
		}
	}
	synctest.Wait()
	for _, text := range handed {
		if text == "n-4" || text == "n-6" {
			r.Errorf("%s was handed over behind a failed message of its group", text)
		}
	}
}

func functionPoison(r *functionRig) {
	r.build()
	r.consume(func(swarm.Msg[note]) error { return nil })
	r.start()
	bags := r.messages(5)
	bags[1].Category = "nobody listens"
	bags[3].Body = []byte("{")
	a := r.invoke(time.Minute, bags...)
	for i := range bags {
		if want := i%2 == 0; a.ok(i) != want {
			r.Errorf("message %d: acknowledged %v, want %v (%v)", i, a.ok(i), want, a.err)
		}
	}
	if a.took > time.Second {
		r.Errorf("answered after %s", a.took)
	}
}

func functionEmits(r *functionRig) {
	r.build()
	r.far.latency = 3 * time.Second
	r.relay()
	r.start()
	a := r.invoke(time.Minute, r.message(0))
	if n := r.far.count(); n != 1 {
		r.Errorf("answered when %d of 1 were confirmed", n)
	}
	if !a.ok(0) || a.took > 4*time.Second {
		r.Errorf("failed %v, %v, after %s", a.failed, a.err, a.took)
	}
}

func functionEmitFails(r *functionRig) {
	r.build()
	r.far.fail = driver.Permanent(errBoom)
	r.relay()
	r.start()
	if a := r.invoke(time.Minute, r.message(0)); a.ok(0) || a.took > 10*time.Second {
		r.Errorf("a value was refused: failed %v, %v, after %s", a.failed, a.err, a.took)
	}
	for range 3 {
		if a := r.invoke(time.Minute, r.message(1)); !a.ok(0) || a.took > time.Second {
			r.Errorf("the next invocation: failed %v, %v, after %s", a.failed, a.err, a.took)
		}
	}
}

func functionIdle(r *functionRig) {
	r.build()
	r.relay()
	r.start()
	if a := r.invoke(time.Minute, r.message(1)); !a.ok(0) || a.took > time.Second {
		r.Errorf("failed %v, %v, after %s", a.failed, a.err, a.took)
	}
}

func functionEmpty(r *functionRig) {
	r.build()
	r.consume(func(swarm.Msg[note]) error { return nil })
	r.start()
	// Where an invocation has one message, none is a payload of somebody else.
	if a := r.invoke(time.Minute); a.err != nil && !r.Single || len(a.failed) > 0 || a.took > time.Second {
		r.Errorf("failed %v, %v, after %s", a.failed, a.err, a.took)
	}
}

func functionForeign(r *functionRig) {
	r.build()
	r.consume(func(swarm.Msg[note]) error { return nil })
	r.start()
	for _, payload := range []string{"", "null", "7", `"text"`, "{", "{}", `{"Records":7}`, `{"records":[{}]}`} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		began := time.Now()
		err := r.fn.Raw(ctx, []byte(payload))
		if r.broken.raw {
			err = nil
		}
		if took := time.Since(began); err == nil || took > time.Second {
			r.Errorf("%s: got %v after %s, want an error at once", payload, err, took)
		}
		cancel()
	}
}

func functionClose(r *functionRig) {
	r.build()
	deq, ack := listen.Typed[note](r.q)
	r.start()
	c := r.later(time.Minute, r.message(0))
	msg := <-deq
	go func() {
		time.Sleep(time.Second)
		ack <- msg
	}()
	if err := r.q.Close(); err != nil {
		r.Errorf("Close: %v", err)
	}
	if a := r.wait("open at Close", c); !a.ok(0) {
		r.Errorf("failed %v, %v", a.failed, a.err)
	}
}
