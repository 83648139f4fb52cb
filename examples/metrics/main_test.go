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

	swarm "github.com/fogfish/swarm/core"
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

// values that labels have.
var values = map[string][]string{
	"messaging_operation_name": {string(swarm.OpSend), string(swarm.OpReceive), string(swarm.OpSettle), string(swarm.OpExtend)},
	"swarm_outcome": {"confirmed", "dropped", "undelivered", swarm.OutcomeAcked.String(), swarm.OutcomeFailed.String(), swarm.OutcomeRejected.String(),
		swarm.OutcomeExpired.String(), swarm.OutcomeReleased.String(), swarm.OutcomeLeaseLost.String(), swarm.OutcomeLost.String()},
}

// Each metric, and each label, that the dashboard asks for is there, in the unit that it shows.
func TestTheDashboardIsFed(t *testing.T) {
	raw, err := os.ReadFile("../../docs/grafana/swarm.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Templating struct{ List []struct{ Name string } }
		Panels     []struct {
			Title       string
			Targets     []struct{ Expr string }
			FieldConfig struct{ Defaults struct{ Unit string } }
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	metrics := scrape(t)
	metric := regexp.MustCompile(`\b((?:swarm|messaging)_\w+)\{([^}]*)\}`)
	label := regexp.MustCompile(`(\w+)(?:=~|!=|!~|=)"`)
	by := regexp.MustCompile(`by \(([^)]*)\)`)
	variables := []string{"__rate_interval"} // of Grafana's own
	for _, v := range dashboard.Templating.List {
		variables = append(variables, v.Name)
	}
	variable, window := regexp.MustCompile(`\$(\w+)`), regexp.MustCompile(`\[([^\]]*)\]`)
	value := regexp.MustCompile(`(swarm_outcome|messaging_operation_name)(?:=~|!=|!~|=)"([^"]*)"`)
	asked := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			if seconds := strings.Contains(target.Expr, "_seconds"); seconds != (p.FieldConfig.Defaults.Unit == "s") {
				t.Errorf("%s: the unit is %q, and it shows %s", p.Title, p.FieldConfig.Defaults.Unit, target.Expr)
			}
			for _, m := range variable.FindAllStringSubmatch(target.Expr, -1) {
				if !slices.Contains(variables, m[1]) {
					t.Errorf("%s: there is no variable %s", p.Title, m[1])
				}
			}
			for _, m := range window.FindAllStringSubmatch(target.Expr, -1) {
				if _, err := time.ParseDuration(m[1]); err != nil && m[1] != "$__rate_interval" {
					t.Errorf("%s: [%s] is no time", p.Title, m[1])
				}
			}
			for _, m := range value.FindAllStringSubmatch(target.Expr, -1) {
				for v := range strings.SplitSeq(m[2], "|") {
					if !slices.Contains(values[m[1]], v) {
						t.Errorf("%s: %s is never %q", p.Title, m[1], v)
					}
				}
			}
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
