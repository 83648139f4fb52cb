package qtest

import (
	"context"
	"fmt"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Case is one sentence of the contract and the code that checks it.
type Case struct {
	// Clause of the contract: D0 to D6 of the package documentation, E1 to C5 of
	// core's.
	Clause string

	// Sentence names the case within the clause: "order: values …".
	Sentence string

	needs []need
	run   func(*rig)
}

// Name is the clause and the sentence.
func (c Case) Name() string { return c.Clause + " " + c.Sentence }

// Missing names the features that the case needs and f lacks; empty when the case
// applies.
func (c Case) Missing(f Features) []string {
	var missing []string
	for _, n := range c.needs {
		if !n.met(f) {
			missing = append(missing, n.name)
		}
	}
	return missing
}

// Cases returns all cases, in the order they run in.
func Cases() []Case {
	return slices.Concat(driverCases, emitCases, listenCases, lifecycleCases)
}

// Outcome is how a case ended.
type Outcome string

const (
	Passed        Outcome = "pass"         // the broker does what the clause says
	Failed        Outcome = "fail"         // it does not
	NotApplicable Outcome = "n/a"          // a feature is missing, Detail says which
	NotSelected   Outcome = "not selected" // by go test -run
)

// Result is what became of one case.
type Result struct {
	Case    string // its name
	Outcome Outcome
	Detail  []string // failures, or missing features
}

// Report lists all cases in their order, whatever became of them.
type Report []Result

// Names returns the cases that had one of the outcomes.
func (r Report) Names(outcomes ...Outcome) []string {
	var names []string
	for _, result := range r {
		if slices.Contains(outcomes, result.Outcome) {
			names = append(names, result.Case)
		}
	}
	return names
}

// String is a line for each case.
func (r Report) String() string {
	var text strings.Builder
	for _, result := range r {
		fmt.Fprintf(&text, "%-4s  %s", result.Outcome, result.Case)
		if result.Outcome == NotApplicable {
			fmt.Fprintf(&text, " (needs %s)", strings.Join(result.Detail, ", "))
		}
		text.WriteByte('\n')
	}
	return text.String()
}

// Run checks a broker against the contract: each case is a subtest of t. A case that
// does not apply is a skipped subtest that says why. The report lists all cases,
// so that a test can pin the ones that ran.
//
// A subtest that fails tells the line of the case, then what the case and the kernel
// have logged. A case that hangs fails, and so does one that leaves a goroutine
// behind in a bubble.
func Run(t *testing.T, open Open, features Features) Report {
	t.Helper()
	if err := features.validate(); err != nil {
		t.Fatal(err)
	}
	s := suite{open: open, features: features.withDefaults()}
	report := make(Report, len(Cases()))
	for i, c := range Cases() {
		report[i] = Result{Case: c.Name(), Outcome: NotSelected}
	}
	all := func(t *testing.T) {
		for i, c := range Cases() {
			t.Run(c.Name(), func(t *testing.T) {
				if features.Parallel {
					t.Parallel()
				}
				if missing := c.Missing(features); len(missing) > 0 {
					report[i].Outcome, report[i].Detail = NotApplicable, missing
					t.Skipf("not applicable, needs %s", strings.Join(missing, ", "))
				}
				report[i] = s.test(t, c)
			})
		}
	}
	if features.Parallel {
		// A group of its own: Run of a group returns when its parallel tests have ended.
		t.Run("parallel", all)
	} else {
		all(t)
	}
	return report
}

// suite is a broker to be tested. Tests of qtest itself put broken behaviour in.
type suite struct {
	open     Open
	features Features
	broken   func() sabotage // nil: nothing is broken
}

// test runs a case that applies as a test.
func (s suite) test(t *testing.T, c Case) Result {
	result, log := s.attempt(t, c)
	if result.Outcome == Failed {
		for _, line := range log {
			t.Log(line)
		}
		for _, failure := range result.Detail {
			t.Error(failure)
		}
	}
	return result
}

// attempt runs a case that applies. It does not fail t: it only needs it to make a
// bubble.
func (s suite) attempt(t *testing.T, c Case) (result Result, log []string) {
	rec := newRecorder(t.Name())
	if s.features.Virtual {
		inBubble(t, rec, func() {
			s.attemptHere(rec, c)
			// Time stops when this function returns. What ends at a time of its own,
			// such as the end of a time to flight, gets the time.
			time.Sleep(s.features.Patience)
		})
	} else {
		s.attemptHere(rec, c)
	}
	result = Result{Case: c.Name(), Outcome: Passed}
	log, result.Detail = rec.said()
	if len(result.Detail) > 0 {
		result.Outcome = Failed
	}
	return result, log
}

// inBubble calls f in a bubble. A goroutine that outlives the bubble is a failure of
// this case, not the end of the test binary.
func inBubble(t *testing.T, rec *recorder, f func()) {
	defer func() {
		if p := recover(); p != nil {
			rec.fail(fmt.Sprintf("goroutines are left behind: %v", p))
		}
	}()
	synctest.Test(t, func(*testing.T) { f() })
}

var labels atomic.Int64

// attemptHere runs a case in its own goroutine, bounded in time.
func (s suite) attemptHere(rec *recorder, c Case) {
	rec.ctx, rec.cancel = context.WithCancel(context.Background())
	defer rec.cancel()
	label := strconv.FormatInt(labels.Add(1), 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// The label is inherited by every goroutine that the case leads to.
		pprof.Do(rec.ctx, pprof.Labels(goroutineLabel, label), func(context.Context) {
			rec.run(func() {
				r := &rig{T: rec, Features: s.features, queue: s.open(rec), label: label}
				if s.broken != nil {
					r.broken = s.broken()
				}
				c.run(r)
			})
		})
	}()
	limit := time.NewTimer(10 * s.features.Patience)
	defer limit.Stop()
	select {
	case <-ended:
		return
	case <-limit.C:
	}
	rec.fail(fmt.Sprintf("hangs: not done after %s\n%s", 10*s.features.Patience, goroutines(label)))
	// The suite's own waits end with the context, and so may the case.
	rec.cancel()
	limit.Reset(s.features.Patience)
	select {
	case <-ended:
	case <-limit.C:
	}
}

const goroutineLabel = "qtest"

// goroutines returns the stacks of the goroutines that a case has led to.
func goroutines(label string) string {
	var profile, mine strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return err.Error()
	}
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", goroutineLabel, label)) {
			mine.WriteString(stack + "\n\n")
		}
	}
	return mine.String()
}
