// Package lambda is AWS Lambda on a laptop, without a container: a runtime that starts
// the real binary of a function, and event source mappings that feed it by AWS's rules.
//
//	fn, err := lambda.Start(ctx, lambda.Function{Command: []string{"./bootstrap"}, Timeout: 10 * time.Second, Log: os.Stderr})
//	defer fn.Close()
//	response, err := fn.Invoke(ctx, []byte(`{"n": 1}`))
//
//	mapping, err := lambda.SQS{Queue: "orders", ReportBatchItemFailures: true}.Start(ctx, client, fn)
//	defer mapping.Close()
//
// [Runtime] runs processes and speaks the Runtime API with them. [SQS], [Stream] and
// [Async] are the ways by which events reach a function. They take any [Invoker]: a
// runtime, or a [Func] in the own process, for tests without a binary. All that they know
// of time is package time, so that with a Func they run in a bubble of testing/synctest.
//
// The rules are those of the Lambda developer guide as of 2026: Runtime API
// 2018-06-01, Extensions API 2020-01-01 as far as aws-lambda-go uses it, and the chapters
// on event source mappings and on asynchronous invocation. Where AWS does not say what it
// does, the comment says what is done here.
//
// # What it does not do
//
// Memory and CPU are not limited, the file system is that of the host, and a function has
// one version. External extensions, response streaming to a client, layers, filter
// criteria, tumbling windows, provisioned pollers and ParallelizationFactor are not there.
// It runs where there are POSIX signals, so not on Windows.
package lambda
