package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// scrape returns the labels of each metric.
func scrape(t *testing.T) map[string][]string {
	t.Helper()
	handler, meter, err := newMeter()
	if err != nil {
		t.Fatal(err)
	}
	q, err := newShop(meter)
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := listen.Typed[Order](q)
	go consume(deq, ack)
	go q.Run(context.Background())
	for id := range 10 {
		if err := emit.NewTyped[Order](q).Enq(t.Context(), Order{ID: id, Amount: id}); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); q.Stats().Listen["Order"].Acked < 5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", q.Stats())
		}
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	line := regexp.MustCompile(`^(\w+)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`(\w+)="`)
	out := map[string][]string{}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if m := line.FindStringSubmatch(lines.Text()); m != nil {
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(out[m[1]], l[1]) {
					out[m[1]] = append(out[m[1]], l[1])
				}
			}
		}
	}
	return out
}

// Each metric, and each label, that the dashboard asks for is there.
func TestTheDashboardIsFed(t *testing.T) {
	raw, err := os.ReadFile("../../docs/grafana/swarm.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	metrics := scrape(t)
	metric := regexp.MustCompile(`\b((?:swarm|messaging)_\w+)\{([^}]*)\}`)
	label := regexp.MustCompile(`(\w+)(?:=~|!=|!~|=)"`)
	by := regexp.MustCompile(`by \(([^)]*)\)`)
	asked := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			found := metric.FindAllStringSubmatch(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s: no metric in %s", p.Title, target.Expr)
			}
			for _, m := range found {
				asked++
				labels, ok := metrics[m[1]]
				if !ok {
					t.Errorf("%s: there is no metric %s", p.Title, m[1])
					continue
				}
				want := []string{}
				for _, l := range label.FindAllStringSubmatch(m[2], -1) {
					want = append(want, l[1])
				}
				for _, b := range by.FindAllStringSubmatch(target.Expr, -1) {
					want = append(want, strings.Split(strings.ReplaceAll(b[1], " ", ""), ",")...)
				}
				for _, l := range want {
					if !slices.Contains(labels, l) {
						t.Errorf("%s: metric %s has no label %s, but %v", p.Title, m[1], l, labels)
					}
				}
			}
		}
	}
	if asked < 20 {
		t.Errorf("the dashboard asks for %d metrics", asked)
	}
}

// It runs until it is told to end, and its ledger adds up.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := run(ctx, "127.0.0.1:0"); err != nil {
		t.Error(err)
	}
}
