package serverless_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// Tests of the mains as functions of Lambda.

// LB1: thousands of invocations with three types of records by one process. It does not
// crash, and each record is processed once or has failed.
func TestLB1_ManyInvocations(t *testing.T) {
	for _, concurrency := range []int{1, 4} {
		t.Run(fmt.Sprint("concurrency ", concurrency), func(t *testing.T) {
			t.Parallel()
			invocations := 2_000
			if soak {
				invocations = 20_000
			}
			fn := example(t, "sqs", lambda.Function{Instances: 1, Concurrency: concurrency})
			began := time.Now()
			var all sync.WaitGroup
			for worker := range concurrency {
				all.Go(func() {
					for i := worker; i < invocations; i += concurrency {
						batch, failed := mixed(i)
						fn.expect(batch, failed...)
						if t.Failed() {
							return
						}
					}
				})
			}
			all.Wait()
			took := time.Since(began)
			fn.healthy()

			seen := map[string]int{}
			for _, id := range fn.log.find(`(?m) (?:note|sign-up|image) (\d+-\d)\b.*$`) {
				seen[id]++
			}
			processed := 0
			for i := range invocations {
				batch, failed := mixed(i)
				for _, r := range batch {
					want := 1
					if slices.Contains(failed, r.ID) {
						want = 0
					}
					processed += want
					if seen[r.ID] != want {
						t.Fatalf("record %s was processed %d times, want %d", r.ID, seen[r.ID], want)
					}
				}
			}
			if len(seen) != processed {
				t.Errorf("%d records were processed, want %d", len(seen), processed)
			}
			t.Logf("%d invocations, %d records, %d failed as told: %s, %.0f µs an invocation",
				invocations, 10*invocations, 10*invocations-processed, took.Round(time.Millisecond), float64(took.Microseconds())/float64(invocations))
		})
	}
}

// mixed is the batch of an invocation: each seventh has an empty note, which fails.
func mixed(invocation int) (batch []record, failed []string) {
	for i := range 10 {
		r := record{ID: fmt.Sprintf("%d-%d", invocation, i)}
		switch i % 3 {
		case 0:
			r.Category, r.Body = "Note", `{"text":"hello"}`
			if invocation%7 == 0 && i == 3 {
				r.Body = `{"text":""}`
				failed = append(failed, r.ID)
			}
		case 1:
			r.Category, r.Body = "User", `{"meta":{"id":"m"},"data":{"name":"ada"}}`
		default:
			r.Category, r.Body = "Image", "not a picture"
		}
		batch = append(batch, r)
	}
	return batch, failed
}

// event is what a test invokes a main with: what it prints, or else its error.
type event struct {
	name    string
	payload string
	prints  []string
	fails   string
}

func (r *running) each(events []event) {
	r.Helper()
	for _, e := range events {
		before := len(r.log.String())
		began := time.Now()
		_, err := r.Invoke(r.Context(), []byte(e.payload))
		if took := time.Since(began); took > 20*time.Second {
			r.Errorf("%s: took %s", e.name, took)
		}
		if (err != nil) != (e.fails != "") || err != nil && !strings.Contains(err.Error(), e.fails) {
			r.Errorf("%s: got %v, want %q", e.name, err, e.fails)
		}
		printed := r.log.String()[before:]
		for _, line := range e.prints {
			if !strings.Contains(printed, line) {
				r.Errorf("%s: no %q in\n%s", e.name, line, printed)
			}
		}
	}
	r.healthy()
}

func putEvent(category string, detail any) string {
	return string(lambda.EventBridgeEvent(lambda.Entry{ID: "e-1", Source: "shop", DetailType: category, Detail: detail}))
}

type object = map[string]any

func TestEventBridge(t *testing.T) {
	t.Parallel()
	fn := example(t, "eventbridge", lambda.Function{Instances: 1, Freeze: true})
	note, empty := putEvent("Note", object{"text": "hello"}), putEvent("Note", object{"text": ""})
	signUp := putEvent("User", object{"meta": object{"id": "u-1"}, "data": object{"name": "ada"}})
	image := putEvent("Image", object{"p": base64.StdEncoding.EncodeToString([]byte("\x89PNG"))})
	fn.each([]event{
		{"typed", note, []string{`note e-1 "hello"`}, ""},
		{"event", signUp, []string{`sign-up e-1 of ada`}, ""},
		{"bytes", image, []string{`image e-1 has 4 bytes`}, ""},
		{"array", "[" + note + "," + signUp + "," + image + "]", []string{`note e-1 "hello"`, `sign-up e-1 of ada`, `image e-1 has 4 bytes`}, ""},
		{"array of one", "[" + note + "]", []string{`note e-1 "hello"`}, ""},
		{"empty array", "[]", nil, ""},
		{"fails", empty, nil, "the note is empty"},
		{"array fails", "[" + signUp + "," + empty + "]", nil, "the note is empty"},
		{"unknown category", putEvent("Unheard", object{}), nil, "unknown category"},
		{"cannot be decoded", putEvent("Note", object{"text": 7}), nil, "decode"},
		{"no event", `{}`, nil, "eventbridge: "},
		{"number", `7`, nil, "eventbridge: "},
		{"of SQS", string(sqsEvent([]record{{ID: "1", Category: "Note", Body: "{}"}})), nil, "eventbridge: "},
	})
}

func notify(category, message string) string {
	return string(lambda.SNSEvent(lambda.Notification{ID: "n-1", Message: message, Attributes: map[string]lambda.NotificationAttribute{"Category": {Type: "String", Value: category}}}))
}

func TestSNS(t *testing.T) {
	t.Parallel()
	fn := example(t, "sns", lambda.Function{Instances: 1, Freeze: true})
	fn.each([]event{
		{"typed", notify("Note", `{"text":"hello"}`), []string{`note n-1 "hello"`}, ""},
		{"event", notify("User", `{"meta":{"id":"u-1"},"data":{"name":"ada"}}`), []string{`sign-up n-1 of ada`}, ""},
		{"bytes", notify("Image", "picture"), []string{`image n-1 has 7 bytes`}, ""},
		{"no records", `{"Records":[]}`, nil, ""},
		{"fails", notify("Note", `{"text":""}`), nil, "the note is empty"},
		{"unknown category", notify("Unheard", `{}`), nil, "unknown category"},
		{"cannot be decoded", notify("Note", `{`), nil, "decode"},
		{"no event", `{}`, nil, "sns: not an event of SNS"},
		{"number", `7`, nil, "sns: not an event of SNS"},
		{"torn record", `{"Records":[7]}`, nil, "not a record of SNS"},
		{"of EventBridge", putEvent("Note", object{}), nil, "sns: not an event of SNS"},
	})
}

func TestEventS3(t *testing.T) {
	t.Parallel()
	fn := example(t, "events3", lambda.Function{Instances: 1, Freeze: true})
	put := lambda.Object{Bucket: "photos", Key: "a b+c/ä.jpg", Size: 7}
	removed := lambda.Object{Event: "ObjectRemoved:Delete", Bucket: "photos", Key: "a"}
	large := lambda.Object{Bucket: "photos", Key: "large", Size: 2 << 30}
	fn.each([]event{
		{"put", string(lambda.S3Event(put)), []string{`ObjectCreated:Put "a b+c/ä.jpg" of photos, 7 bytes`}, ""},
		{"removed", string(lambda.S3Event(removed)), []string{`ObjectRemoved:Delete "a" of photos`}, ""},
		{"test event", `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-24T10:00:00.000Z","Bucket":"photos"}`, nil, ""},
		{"no records", `{"Records":[]}`, nil, ""},
		{"by EventBridge", string(lambda.EventBridgeEvent(lambda.Entry{Source: "aws.s3", DetailType: "Object Created", Detail: object{
			"bucket": object{"name": "photos"}, "object": object{"key": "c d", "size": 1}, "reason": "PutObject"}})), []string{`ObjectCreated:Put "c d" of photos, 1 bytes`}, ""},
		{"fails", string(lambda.S3Event(large)), nil, "large is too large for us"},
		{"of EventBridge", putEvent("Note", object{}), nil, "not an event of S3"},
		{"no event", `{}`, nil, "not an event of S3"},
		{"number", `7`, nil, "not an event of S3"},
		{"torn record", `{"Records":[7]}`, nil, "not a record of S3"},
	})
}

// By the rules of asynchronous invocation: two repetitions, then the destination for
// failures.
func TestAsynchronousInvocation(t *testing.T) {
	for name, payloads := range map[string]struct{ good, bad, fails string }{
		"eventbridge": {putEvent("Note", object{"text": "hello"}), putEvent("Note", object{"text": ""}), "the note is empty"},
		"sns":         {notify("Note", `{"text":"hello"}`), notify("Note", `{"text":""}`), "the note is empty"},
		"events3":     {string(lambda.S3Event(lambda.Object{Bucket: "photos", Key: "k"})), string(lambda.S3Event(lambda.Object{Bucket: "photos", Key: "k", Size: 2 << 30})), "k is too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn := example(t, name, lambda.Function{Instances: 1, Freeze: true})
			var mu sync.Mutex
			var good, bad []lambda.Result
			gather := func(into *[]lambda.Result) func(lambda.Result) {
				return func(r lambda.Result) {
					mu.Lock()
					defer mu.Unlock()
					*into = append(*into, r)
				}
			}
			queue, err := lambda.Async{RetryDelay: time.Millisecond, OnSuccess: gather(&good), OnFailure: gather(&bad)}.Start(t.Context(), fn.Runtime)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				payload := payloads.good
				if i%5 == 0 {
					payload = payloads.bad
				}
				if _, err := queue.Send([]byte(payload)); err != nil {
					t.Fatal(err)
				}
			}
			if err := queue.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			if left := queue.Close(); left != 0 || len(good) != 16 || len(bad) != 4 {
				t.Errorf("%d succeeded, %d failed, %d left", len(good), len(bad), left)
			}
			for _, r := range good {
				if r.Attempts != 1 {
					t.Errorf("succeeded at attempt %d", r.Attempts)
				}
			}
			for _, r := range bad {
				if r.Attempts != 3 || r.Condition != lambda.RetriesExhausted || !strings.Contains(r.Err.Error(), payloads.fails) {
					t.Errorf("got %s after %d attempts: %v", r.Condition, r.Attempts, r.Err)
				}
			}
			fn.healthy()
		})
	}
}
