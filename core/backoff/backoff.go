// Package backoff computes delays between attempts. It is pure: it never sleeps.
package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Func returns the delay after attempt n and before the next one, n = 1, 2, 3 ….
// A delay is never negative.
type Func func(n int) time.Duration

// Policy is how often an operation is attempted, and how far apart. The first
// attempt always happens. There is no delay after the last one.
type Policy struct {
	// Attempts in all, the first included. At least 1.
	Attempts int

	// Delay between attempts. Nil: none.
	Delay Func
}

// None attempts once.
func None() Policy { return Policy{Attempts: 1} }

// Next returns the delay before the attempt that follows attempt n, and false when
// attempt n was the last.
func (p Policy) Next(n int) (time.Duration, bool) {
	if n >= p.Attempts {
		return 0, false
	}
	if p.Delay == nil {
		return 0, true
	}
	return max(0, p.Delay(n)), true
}

// Constant is the same delay d each time.
func Constant(d time.Duration) Func {
	return func(int) time.Duration { return max(0, d) }
}

// Linear grows by d each time: d, 2d, 3d ….
func Linear(d time.Duration) Func {
	return func(n int) time.Duration { return scale(d, float64(max(n, 1))) }
}

// Exponential doubles each time, up to limit: d, 2d, 4d ….
func Exponential(d, limit time.Duration) Func {
	return func(n int) time.Duration {
		return min(limit, scale(d, math.Pow(2, float64(max(n, 1)-1))))
	}
}

// FullJitter draws each delay at random between zero and what f says, so that
// clients that failed together do not come back together.
func (f Func) FullJitter() Func {
	return func(n int) time.Duration { return scale(f(n), rand.Float64()) }
}

// EqualJitter draws each delay at random between half of what f says and all of it.
func (f Func) EqualJitter() Func {
	return func(n int) time.Duration { return scale(f(n), 0.5+rand.Float64()/2) }
}

// scale multiplies without overflow.
func scale(d time.Duration, by float64) time.Duration {
	if d <= 0 {
		return 0
	}
	v := float64(d) * by
	if v >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(v)
}
