package driver_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/fogfish/swarm/core/driver"
)

// What repeating would not change is marked: it reads as before.
func ExamplePermanent() {
	denied := errors.New("access denied")
	err := fmt.Errorf("send: %w", driver.Permanent(denied))
	fmt.Println(err)
	fmt.Println(driver.IsPermanent(err), errors.Is(err, driver.ErrPermanent), errors.Is(err, denied))
	fmt.Println(driver.IsPermanent(denied), driver.Permanent(nil))
	// Output:
	// send: access denied
	// true true true
	// false <nil>
}

// A driver names the entries of a batch that have failed; the others have succeeded.
func ExampleBatchError() {
	full := errors.New("queue is full")
	err := error(&driver.BatchError{Failed: []driver.Failure{
		{Index: 1, Err: full},
		{Index: 4, Err: errors.New("too large"), Permanent: true},
	}})
	fmt.Println(err, errors.Is(err, full))
	fmt.Println(&driver.BatchError{}) // one that names none is of all
	// Output:
	// 2 of the batch failed, first: queue is full true
	// batch failed
}

// A Runner whose request fails tells the kernel, and makes it again. The kernel listens by
// WithReport.
func ExampleReport() {
	run := func(ctx context.Context) {
		driver.Report(ctx, errors.New("get records: no answer in 5s"))
	}
	run(driver.WithReport(context.Background(), func(err error) { fmt.Println("reported:", err) }))
	run(context.Background()) // no kernel
	// Output: reported: get records: no answer in 5s
}

func ExampleOutcome() {
	fmt.Println(driver.Ack, driver.Nack, driver.Release, driver.Outcome(9))
	// Output: ack nack release outcome(9)
}
