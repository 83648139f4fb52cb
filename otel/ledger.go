package otel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	swarm "github.com/fogfish/swarm/core"
)

// Source is a kernel.
type Source interface{ Stats() swarm.Stats }

// Register measures the ledger of a kernel whenever metrics are collected, until the
// registration is unregistered. Give each kernel a destination of its own: of two with the same
// attributes counters are added, gauges are those of one, and the books do not add up. Names are
// those of [swarm.Stats]; ages are in seconds.
//
//	swarm.emit.accepted, .retried, .refused     by category
//	swarm.emit.ended                            by category and outcome
//	swarm.emit.in_flight, .dead_letters, .oldest
//	swarm.listen.received, .redelivered, .ignored
//	swarm.listen.settled                        by category and outcome
//	swarm.listen.waiting, .working, .oldest, .longest
//	swarm.requests, swarm.requests.errors, .open, .entries  by operation
//	swarm.settling, swarm.unconfirmed
func Register(q Source, opts ...Option) (metric.Registration, error) {
	c := newConfig(opts)
	r := &register{meter: c.meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)), base: c.attributes()}

	r.counter("swarm.emit.accepted", "{message}", "Values that were accepted.")
	r.counter("swarm.emit.ended", "{message}", "Values that have their end: confirmed, failed, dropped or undelivered.")
	r.counter("swarm.emit.retried", "{attempt}", "Attempts to send that failed and were followed by another one.")
	r.counter("swarm.emit.refused", "{message}", "Values that came after the end.")
	r.gauge("swarm.emit.in_flight", "{message}", "Values that wait, are in a request, or wait for another attempt.")
	r.gauge("swarm.emit.dead_letters", "{message}", "Values that have failed and were not taken from dlq: their channel is blocked.")
	r.seconds("swarm.emit.oldest", "Age of the oldest value in flight.")
	r.counter("swarm.listen.received", "{message}", "Messages that were received.")
	r.counter("swarm.listen.settled", "{message}", "Messages that have their end, by outcome.")
	r.counter("swarm.listen.redelivered", "{message}", "Messages that were received not for the first time.")
	r.counter("swarm.listen.ignored", "{message}", "Settlements that were late, double, forged or foreign.")
	r.gauge("swarm.listen.waiting", "{message}", "Messages that wait for a consumer.")
	r.gauge("swarm.listen.working", "{message}", "Messages with consumers.")
	r.seconds("swarm.listen.oldest", "Age of the oldest message that is not settled.")
	r.seconds("swarm.listen.longest", "For how long a consumer has had a message.")
	r.counter("swarm.requests", "{request}", "Calls of the broker.")
	r.counter("swarm.requests.errors", "{request}", "Calls of the broker that have failed, at least for some of their messages.")
	r.counter("swarm.requests.entries", "{message}", "Messages in calls of the broker.")
	r.gauge("swarm.requests.open", "{request}", "Calls of the broker that are not answered.")
	r.gauge("swarm.settling", "{message}", "Settlements that the broker has not confirmed yet.")
	r.counter("swarm.unconfirmed", "{message}", "Settlements that the broker has refused, or left unanswered.")
	if r.err != nil {
		return nil, r.err
	}
	return r.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		r.observe(o, q.Stats())
		return nil
	}, r.all...)
}

// register has the instruments by name.
type register struct {
	meter metric.Meter
	base  []attribute.KeyValue
	ints  map[string]metric.Int64Observable
	ages  map[string]metric.Float64Observable
	all   []metric.Observable
	err   error
}

func (r *register) counter(name, unit, text string) {
	i, err := r.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	r.add(name, i, err)
}

func (r *register) gauge(name, unit, text string) {
	i, err := r.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
	r.add(name, i, err)
}

func (r *register) add(name string, i metric.Int64Observable, err error) {
	if err != nil {
		r.err = err
		return
	}
	if r.ints == nil {
		r.ints = map[string]metric.Int64Observable{}
	}
	r.ints[name] = i
	r.all = append(r.all, i)
}

func (r *register) seconds(name, text string) {
	i, err := r.meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(text))
	if err != nil {
		r.err = err
		return
	}
	if r.ages == nil {
		r.ages = map[string]metric.Float64Observable{}
	}
	r.ages[name] = i
	r.all = append(r.all, i)
}

func (r *register) observe(o metric.Observer, s swarm.Stats) {
	at := func(more ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(append(r.base[:len(r.base):len(r.base)], more...)...))
	}
	count := func(name string, n int64, at metric.MeasurementOption) { o.ObserveInt64(r.ints[name], n, at) }
	age := func(name string, d time.Duration, at metric.MeasurementOption) {
		o.ObserveFloat64(r.ages[name], d.Seconds(), at)
	}
	outcome := func(name string) attribute.KeyValue { return attribute.String("swarm.outcome", name) }

	for name, c := range s.Emit {
		of, here := category(name), at(category(name))
		count("swarm.emit.accepted", c.Accepted, here)
		count("swarm.emit.ended", c.Confirmed, at(of, outcome("confirmed")))
		count("swarm.emit.ended", c.Failed, at(of, outcome("failed")))
		count("swarm.emit.ended", c.Dropped, at(of, outcome("dropped")))
		count("swarm.emit.ended", c.Undelivered, at(of, outcome("undelivered")))
		count("swarm.emit.retried", c.Retried, here)
		count("swarm.emit.refused", c.Refused, here)
		count("swarm.emit.in_flight", c.InFlight, here)
		count("swarm.emit.dead_letters", c.DeadLetters, here)
		age("swarm.emit.oldest", c.Oldest, here)
	}
	for name, c := range s.Listen {
		of, here := category(name), at(category(name))
		count("swarm.listen.received", c.Received, here)
		for end, n := range map[swarm.Outcome]int64{
			swarm.OutcomeAcked: c.Acked, swarm.OutcomeFailed: c.Failed, swarm.OutcomeRejected: c.Rejected, swarm.OutcomeExpired: c.Expired,
			swarm.OutcomeReleased: c.Released, swarm.OutcomeLeaseLost: c.LeaseLost, swarm.OutcomeLost: c.Lost,
		} {
			count("swarm.listen.settled", n, at(of, outcome(end.String())))
		}
		count("swarm.listen.redelivered", c.Redelivered, here)
		count("swarm.listen.ignored", c.Ignored, here)
		count("swarm.listen.waiting", c.Waiting, here)
		count("swarm.listen.working", c.Working, here)
		age("swarm.listen.oldest", c.Oldest, here)
		age("swarm.listen.longest", c.Longest, here)
	}
	for op, c := range s.Requests {
		here := at(semconv.MessagingOperationName(string(op)))
		count("swarm.requests", c.Calls, here)
		count("swarm.requests.errors", c.Errors, here)
		count("swarm.requests.entries", c.Entries, here)
		count("swarm.requests.open", c.Open, here)
	}
	count("swarm.settling", s.Settling, at())
	count("swarm.unconfirmed", s.Unconfirmed, at())
}
