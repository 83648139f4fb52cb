package top

import "time"

// place is where counts are: a category of a side, or an operation.
type place struct{ kernel, side, name string }

// counts of a place at one moment.
type counts struct {
	into, out   int64
	a, b        int64 // gauges
	dead, taken int64 // dead letters, and those that were taken
}

// series is what became of the counts of a place.
type series struct {
	last            counts
	at              time.Time // of the counts that rates are from; zero: there are none
	from            counts
	rateIn, rateOut float64 // unknown: -1
	rates           []float64
	mostA, mostB    int64
	stuck           time.Time // since when no dead letter is taken
	blocked         time.Duration
}

// instant is too short for a rate.
const instant = 0.2

func (x *series) take(at time.Time, c counts) {
	dt := at.Sub(x.at).Seconds()
	if x.at.IsZero() || dt < 0 || c.into < x.last.into || c.out < x.last.out { // another process
		*x = series{rateIn: -1, rateOut: -1, at: at, from: c}
	} else if dt >= instant {
		x.rateIn, x.rateOut = float64(c.into-x.from.into)/dt, float64(c.out-x.from.out)/dt
		x.rates = append(x.rates, x.rateIn)
		if n := len(x.rates) - mostSpark; n > 0 {
			x.rates = x.rates[n:]
		}
		x.at, x.from = at, c
	}
	x.block(at, c)
	x.last = c
	x.mostA, x.mostB = max(x.mostA, c.a), max(x.mostB, c.b)
}

// block: dead letters are there, and none was taken since.
func (x *series) block(at time.Time, c counts) {
	switch {
	case c.dead <= 0:
		x.stuck = time.Time{}
	case x.stuck.IsZero(), x.last.taken != c.taken:
		x.stuck = at
	}
	x.blocked = 0
	if !x.stuck.IsZero() {
		x.blocked = at.Sub(x.stuck)
	}
}
