// Metrics shows a program to Prometheus: orders go through a queue in memory, some come
// again, some are refused, and each is counted.
//
//	go run ./examples/metrics        # prints the address of /metrics; Ctrl-C drains
//
// The dashboard in docs/grafana/swarm.json shows what it has to tell. Prometheus asks for it:
//
//	scrape_configs:
//	  - job_name: swarm
//	    scrape_interval: 5s
//	    static_configs: [{targets: ["127.0.0.1:9464"]}]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/otel"
)

// Order is what is sold.
type Order struct {
	ID     int `json:"id"`
	Amount int `json:"amount"`
}

func main() {
	addr := flag.String("addr", "127.0.0.1:9464", "address of /metrics")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string) error {
	handler, meter, err := newMeter()
	if err != nil {
		return err
	}
	q, err := newShop(meter)
	if err != nil {
		return err
	}
	socket, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, q.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(socket)
	defer server.Close()
	fmt.Printf("http://%s/metrics\n", socket.Addr())

	deq, ack := listen.Typed[Order](q)
	for range 4 {
		go consume(deq, ack)
	}
	go sell(ctx, emit.NewTyped[Order](q))
	if err := q.Run(ctx); err != nil {
		return err
	}
	s := q.Stats()
	fmt.Printf("%d orders accepted, %d processed, %d came again\n", s.Emit["Order"].Accepted, s.Listen["Order"].Acked, s.Listen["Order"].Redelivered)
	return s.Check()
}

// newMeter is a registry of Prometheus, and what metrics are recorded by.
func newMeter() (http.Handler, *sdk.MeterProvider, error) {
	registry := prometheus.NewRegistry()
	e, err := exporter.New(exporter.WithRegisterer(registry))
	if err != nil {
		return nil, nil, err
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), sdk.NewMeterProvider(sdk.WithReader(e)), nil
}

// newShop is a kernel that is measured: the calls as they happen, the ledger when asked.
func newShop(meter *sdk.MeterProvider) (*kernel.Endpoint, error) {
	opts := []otel.Option{otel.WithMeterProvider(meter), otel.WithSystem("memory"), otel.WithDestination("orders")}
	queue, err := embedded.NewQueue("orders", embedded.WithMaxReceives(5))
	if err != nil {
		return nil, err
	}
	q, err := embedded.Endpoint().WithQueue(queue).WithKernel(otel.WithTelemetry(opts...)).Build("")
	if err != nil {
		return nil, err
	}
	if _, err := otel.Register(q, opts...); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

// sell sends orders, in waves.
func sell(ctx context.Context, orders *emit.Sync[Order]) {
	for id := 1; ctx.Err() == nil; id++ {
		_ = orders.Enq(ctx, Order{ID: id, Amount: rand.IntN(100)}) // the ledger has the error
		pause := 10 * time.Millisecond
		if id%500 > 400 {
			pause = 50 * time.Millisecond
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// consume takes its time, and refuses some orders at first.
func consume(deq <-chan swarm.Msg[Order], ack chan<- swarm.Msg[Order]) {
	for msg := range deq {
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // work
		if msg.Object.Amount < 5 && msg.Attempt < 3 {
			ack <- msg.Fail(errors.New("the warehouse does not answer"))
			continue
		}
		ack <- msg
	}
}
