package events3_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fogfish/swarm/broker/events3"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
)

// As the documentation of S3 has it, with a member of the future.
const put = `{
	"eventVersion":"2.9","eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"1970-01-01T00:00:00.123Z","eventName":"ObjectCreated:Put",
	"userIdentity":{"principalId":"AIDAJDPLRKLG7UEXAMPLE"},"requestParameters":{"sourceIPAddress":"172.16.0.1"},
	"responseElements":{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":"FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"},
	"s3":{"s3SchemaVersion":"1.0","configurationId":"testConfigRule","bucket":{"name":"amzn-s3-demo-bucket","ownerIdentity":{"principalId":"A3NL1KOZZKExample"},"arn":"arn:aws:s3:::amzn-s3-demo-bucket"},
	"object":{"key":"a+b%2Bc/%C3%A4+HappyFace.jpg","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","versionId":"096fKKXTRTtl3on89fVO.nfljtsv6qko","sequencer":"0055AED6DCD90281E5"}},
	"someDay":{"x":[1]}
}`

func TestRecord(t *testing.T) {
	var r events3.Record
	if err := json.Unmarshal([]byte(put), &r); err != nil {
		t.Fatal(err)
	}
	want := events3.Record{
		Event: "ObjectCreated:Put", Time: time.Unix(0, 123e6).UTC(), Region: "us-west-2",
		Bucket: "amzn-s3-demo-bucket", BucketARN: "arn:aws:s3:::amzn-s3-demo-bucket",
		Key: "a b+c/ä HappyFace.jpg", Size: 1024, ETag: "d41d8cd98f00b204e9800998ecf8427e", VersionID: "096fKKXTRTtl3on89fVO.nfljtsv6qko",
		Sequencer: "0055AED6DCD90281E5", PrincipalID: "AIDAJDPLRKLG7UEXAMPLE", SourceIP: "172.16.0.1",
		RequestID: "C3D13FE58DE4C810", ConfigurationID: "testConfigRule",
	}
	if r != want {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again events3.Record
	if err := json.Unmarshal(b, &again); err != nil || again != want {
		t.Errorf("encodes as %s, %v", b, err)
	}
}

func TestKeys(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"plain.txt":       "plain.txt",
		"a+b":             "a b",
		"a%20b":           "a b",
		"a%2Bb":           "a+b",
		"100%.txt":        "100%.txt", // nobody encoded it
		"a%zz+b":          "a%zz+b",
		"%E2%82%AC":       "€",
		"folder/sub/%2F/": "folder/sub///",
	} {
		var r events3.Record
		doc, _ := json.Marshal(map[string]any{"s3": map[string]any{"object": map[string]any{"key": in}}})
		if err := json.Unmarshal(doc, &r); err != nil || r.Key != want {
			t.Errorf("%q: got %q, want %q, %v", in, r.Key, want, err)
		}
	}
}

func TestCompareSequencers(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"0055AED6DCD90281E5", "0055AED6DCD90281E5", 0},
		{"0055AED6DCD90281E5", "0055AED6DCD90281E6", -1},
		{"0055aed6dcd90281e5", "0055AED6DCD90281E6", -1},
		{"0055", "0055AED6", -1},
		{"0055", "00550000", 0},
		{"0056", "0055FFFF", 1},
	} {
		if got := events3.CompareSequencers(x.a, x.b); got != x.want {
			t.Errorf("%q and %q: got %d, want %d", x.a, x.b, got, x.want)
		}
		if got := events3.CompareSequencers(x.b, x.a); got != -x.want {
			t.Errorf("%q and %q: got %d, want %d", x.b, x.a, got, -x.want)
		}
	}
}

// A consumer is tested without S3: on a broker in memory, with records made by hand.
func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := swarm.Must(embedded.Endpoint().Build("bucket"))
		deq, ack := events3.Listen(q)
		enq, _ := emit.Typed[events3.Record](q, emit.Category(events3.Category))
		go q.Run(t.Context())
		enq <- events3.Record{Event: "ObjectCreated:Put", Bucket: "photos", Key: "a b.jpg"}
		close(enq)
		msg := <-deq
		if msg.Object.Bucket != "photos" || msg.Object.Key != "a b.jpg" || msg.Category != events3.Category {
			t.Errorf("got %+v", msg)
		}
		ack <- msg
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(put))
	f.Add([]byte(`{"s3":{"object":{"key":"%"}}}`))
	f.Add([]byte(`{"eventTime":"x"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again events3.Record
		if json.Unmarshal(b, &r) != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			if r.Time.Year() < 0 || r.Time.Year() > 9999 {
				return // not a time of RFC 3339
			}
			t.Fatalf("%q decodes, and does not encode: %v", b, err)
		}
		if err := json.Unmarshal(out, &again); err != nil || !again.Time.Equal(r.Time) {
			t.Fatalf("%q encodes as %s: %v", b, out, err)
		}
		r.Time, again.Time = time.Time{}, time.Time{}
		if again != r {
			t.Fatalf("%q is %+v, then %+v", b, r, again)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var r events3.Record
		if err := json.Unmarshal([]byte(put), &r); err != nil {
			b.Fatal(err)
		}
	}
}
