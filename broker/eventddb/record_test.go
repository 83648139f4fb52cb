package eventddb_test

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"

	"github.com/fogfish/swarm/broker/eventddb"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
)

// User is an item of a table.
type User struct {
	ID    string   `dynamodbav:"id"`
	Name  string   `dynamodbav:"name"`
	Age   int      `dynamodbav:"age"`
	Tags  []string `dynamodbav:"tags,stringset,omitempty"`
	Photo []byte   `dynamodbav:"photo,omitempty"`
}

// As the documentation of Lambda has it.
const modify = `{"eventID":"c4ca4238a0b923820dcc509a6f75849b","eventName":"MODIFY","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1",
"dynamodb":{"ApproximateCreationDateTime":1479499740.123456789,"Keys":{"id":{"S":"u1"}},"NewImage":{"id":{"S":"u1"},"name":{"S":"ada"},"age":{"N":"36"},"tags":{"SS":["a","b"]},"photo":{"B":"/wA="}},
"OldImage":{"id":{"S":"u1"},"name":{"S":"Ada"},"age":{"N":"35"}},"SequenceNumber":"4421584500000000017450439091","SizeBytes":26,"StreamViewType":"NEW_AND_OLD_IMAGES"},
"eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/users/stream/2026-11-24T00:00:00.000"}`

func TestChange(t *testing.T) {
	var c eventddb.Change[User]
	if err := json.Unmarshal([]byte(modify), &c); err != nil {
		t.Fatal(err)
	}
	if want := time.Unix(1479499740, 123456789); !c.Created.Equal(want) {
		t.Errorf("created %s, want %s", c.Created, want)
	}
	if c.Kind != eventddb.Modify || c.SequenceNumber != "4421584500000000017450439091" || c.EventID != "c4ca4238a0b923820dcc509a6f75849b" || c.Identity != nil || c.Region != "us-east-1" {
		t.Errorf("got %+v", c)
	}
	now, err := c.New()
	if err != nil || now.Name != "ada" || now.Age != 36 || len(now.Tags) != 2 || string(now.Photo) != "\xff\x00" {
		t.Errorf("new: %+v, %v", now, err)
	}
	if before, err := c.Old(); err != nil || before.Name != "Ada" || before.Age != 35 {
		t.Errorf("old: %+v, %v", before, err)
	}
	if key, err := c.Key(); err != nil || key.ID != "u1" || key.Name != "" {
		t.Errorf("key: %+v, %v", key, err)
	}

	// It encodes as it came, and the types of aws-lambda-go read it.
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var again eventddb.Change[User]
	var native events.DynamoDBEventRecord
	if err := errors.Join(json.Unmarshal(b, &again), json.Unmarshal(b, &native)); err != nil {
		t.Fatal(err)
	}
	if again.Kind != c.Kind || !again.Created.Equal(c.Created) || string(again.OldImage) != string(c.OldImage) || native.Change.SequenceNumber != c.SequenceNumber {
		t.Errorf("encodes as %s", b)
	}
}

func TestKinds(t *testing.T) {
	record := func(name, identity string) string {
		if identity != "" {
			identity = `,"userIdentity":` + identity
		}
		return `{"eventName":"` + name + `","dynamodb":{"SequenceNumber":"1","Keys":{"id":{"S":"u1"}}}` + identity + `}`
	}
	for _, x := range []struct {
		record string
		want   eventddb.Kind
	}{
		{record("INSERT", ""), eventddb.Insert},
		{record("MODIFY", ""), eventddb.Modify},
		{record("REMOVE", ""), eventddb.Remove},
		{record("REMOVE", "null"), eventddb.Remove},
		{record("REMOVE", `{"type":"Service","principalId":"dynamodb.amazonaws.com"}`), eventddb.Expire},
		{record("REMOVE", `{"type":"Service","principalId":"somebody"}`), eventddb.Remove},
		{record("DROP", ""), ""},
		{`{}`, ""}, {`7`, ""}, {`{"eventName":7}`, ""},
	} {
		var c eventddb.Change[User]
		err := json.Unmarshal([]byte(x.record), &c)
		if c.Kind != x.want || (err == nil) != (x.want != "") {
			t.Errorf("%s: got %q, %v", x.record, c.Kind, err)
		}
		if _, err := c.New(); !errors.Is(err, eventddb.ErrNoImage) {
			t.Errorf("%s: an image that is not there: %v", x.record, err)
		}
		if _, err := c.Old(); !errors.Is(err, eventddb.ErrNoImage) {
			t.Errorf("%s: an image that is not there: %v", x.record, err)
		}
	}
}

// A wrong image is the error of whoever asks for it.
func TestWrongImages(t *testing.T) {
	for _, image := range []string{`{"id":{"X":"u1"}}`, `{"id":{"S":7}}`, `{"id":"u1"}`, `[]`, `{"age":{"S":"old"}}`, `{"age":{"N":"1e400"}}`, `{"id":{}}`} {
		var c eventddb.Change[User]
		doc := strings.Replace(modify, `{"id":{"S":"u1"},"name":{"S":"Ada"},"age":{"N":"35"}}`, image, 1)
		if err := json.Unmarshal([]byte(doc), &c); err != nil {
			t.Errorf("%s: %v", image, err)
			continue
		}
		if v, err := c.Old(); err == nil && image != `{"id":{}}` && image != `[]` || err != nil && !strings.Contains(err.Error(), "old image") {
			t.Errorf("%s: got %+v, %v", image, v, err)
		}
		if _, err := c.New(); err != nil {
			t.Errorf("the other image: %v", err)
		}
	}
}

func TestTimes(t *testing.T) {
	for in, want := range map[string]int64{
		"1479499740": 1479499740e9, "1479499740.5": 1479499740.5e9, "1479499740.122999906": 1479499740122999906, "1479499740.0000000019": 1479499740000000001,
		"1.47949974E9": 1479499740e9, "0": 0, "-1.5": -1.5e9,
	} {
		var r eventddb.Record
		doc := `{"dynamodb":{"ApproximateCreationDateTime":` + in + `}}`
		if err := json.Unmarshal([]byte(doc), &r); err != nil || r.Created.UnixNano() != want {
			t.Errorf("%s: got %d, %v", in, r.Created.UnixNano(), err)
		}
	}
	for _, bad := range []string{"1e400", "1e99", "-1e50"} {
		var r eventddb.Record
		if err := json.Unmarshal([]byte(`{"dynamodb":{"ApproximateCreationDateTime":`+bad+`}}`), &r); err == nil {
			t.Errorf("%s: got %s", bad, r.Created)
		}
	}
}

// A consumer is tested without DynamoDB: on a broker in memory, with records made by hand.
func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := swarm.Must(embedded.Endpoint().Build("users"))
		deq, ack := eventddb.Listen[User](q)
		enq, _ := emit.Typed[eventddb.Record](q, emit.Category(eventddb.Category))
		go q.Run(t.Context())
		image, err := eventddb.Image(User{ID: "u1", Name: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		enq <- eventddb.Record{EventName: "INSERT", SequenceNumber: "1", Created: time.Unix(1, 5e8), NewImage: image}
		close(enq)
		msg := <-deq
		if user, err := msg.Object.New(); err != nil || user.Name != "ada" || msg.Object.Kind != eventddb.Insert || msg.Object.Created.UnixMilli() != 1500 {
			t.Errorf("got %+v, %v", user, err)
		}
		ack <- msg
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := eventddb.Image(7); err == nil {
		t.Error("7 is an item")
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(modify))
	f.Add([]byte(`{"eventName":"INSERT","dynamodb":{"NewImage":{"id":{"M":{"x":{"L":[{"BOOL":true},{"NULL":true},{"NS":["1"]},{"BS":["AA=="]}]}}}}}}`))
	f.Add([]byte(`{"eventName":"REMOVE","dynamodb":{"ApproximateCreationDateTime":-0.5,"OldImage":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c eventddb.Change[map[string]any]
		if json.Unmarshal(b, &c) != nil {
			return
		}
		_, _ = c.New()
		_, _ = c.Old()
		_, _ = c.Key()
		out, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("%q decodes, and does not encode: %v", b, err)
		}
		var again eventddb.Change[map[string]any]
		if err := json.Unmarshal(out, &again); err != nil || again.Kind != c.Kind || again.SequenceNumber != c.SequenceNumber {
			t.Fatalf("%q encodes as %s: %v", b, out, err)
		}
	})
}

// Decoding costs at most a fifth more than by hand: raw images, and UnmarshalMapJSON.
func BenchmarkBudgetDecode(b *testing.B) {
	type byHand struct {
		EventName string `json:"eventName"`
		Change    struct {
			SequenceNumber     string
			NewImage, OldImage json.RawMessage
		} `json:"dynamodb"`
	}
	const records = 100
	list := make([]string, records)
	for i := range list {
		list[i] = modify
	}
	payload := []byte(`{"Records":[` + strings.Join(list, ",") + `]}`)
	hand := func() {
		var in struct{ Records []byHand }
		if err := json.Unmarshal(payload, &in); err != nil {
			b.Fatal(err)
		}
		for _, r := range in.Records {
			for _, image := range []json.RawMessage{r.Change.NewImage, r.Change.OldImage} {
				m, err := attributevalue.UnmarshalMapJSON(image)
				var u User
				if err == nil {
					err = attributevalue.UnmarshalMap(m, &u)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	ours := func() {
		bags, err := eventddb.Receive(payload)
		if err != nil {
			b.Fatal(err)
		}
		for i := range bags {
			c, err := eventddb.Decode[User](bags[i].Body)
			if err == nil {
				_, err = c.New()
			}
			if err == nil {
				_, err = c.Old()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	measure := func(f func()) time.Duration {
		best := time.Hour
		for range 20 {
			began := time.Now()
			for range 5 {
				f()
			}
			best = min(best, time.Since(began)/5)
		}
		return best
	}
	x, y := measure(hand), measure(ours)
	b.ReportMetric(float64(y)/float64(x), "ratio")
	b.ReportMetric(1.2, "max-ratio")
	b.ReportMetric(float64(y.Microseconds())/records, "µs/record")

	// What a batch of 10,000 records takes beside its payload, until consumers decode it.
	big := []byte(`{"Records":[` + strings.Repeat(modify+",", 9_999) + modify + `]}`)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	bags, err := eventddb.Receive(big)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || len(bags) != 10_000 {
		b.Fatal(len(bags), err)
	}
	b.ReportMetric(float64(len(big))/(1<<20), "MiB-payload-of-10k")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-of-10k")
	b.ReportMetric(20, "max-MiB-of-10k")
	runtime.KeepAlive(bags)
	runtime.KeepAlive(big)
}
