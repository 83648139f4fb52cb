package lambda

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Invoker is a function that can be invoked synchronously. Implementations are safe for
// concurrent use and do not retain payload.
//
// The error is a [*FunctionError] if the function failed, a [*ThrottleError] if it was not
// run because too many of its invocations are, and something else if the request did not
// get as far as that.
//
// An Invoker may also have the methods Timeout() time.Duration and Concurrency() int, as
// [Runtime] has. Mappings respect what they say.
type Invoker interface {
	Invoke(ctx context.Context, payload []byte, opts ...InvokeOption) (response []byte, err error)
}

// InvokeOption changes what an invocation tells the function.
type InvokeOption func(*request)

// request is what the function learns about its invocation beside the payload.
type request struct{ id, traceID, clientContext, tenantID string }

// WithRequestID sets the request id. Default is a random UUID. AWS keeps it when it
// repeats an asynchronous invocation.
func WithRequestID(id string) InvokeOption { return func(r *request) { r.id = id } }

// WithTraceID sets the X-Ray trace header, as in Root=1-…;Parent=…;Sampled=1. Default is
// a random one that is not sampled.
func WithTraceID(id string) InvokeOption { return func(r *request) { r.traceID = id } }

// WithClientContext sets the client context, a JSON object. A [Func] does not get it.
func WithClientContext(context string) InvokeOption {
	return func(r *request) { r.clientContext = context }
}

// WithTenantID sets the tenant of a function with tenant isolation.
func WithTenantID(id string) InvokeOption { return func(r *request) { r.tenantID = id } }

func newRequest(opts []InvokeOption) request {
	r := request{
		id:      uuid(),
		traceID: fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", time.Now().Unix(), hex(12), hex(8)),
	}
	for _, opt := range opts {
		opt(&r)
	}
	return r
}

func hex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("%x", b)
}

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Func is a function in the own process. It finds its request id in
// lambdacontext.FromContext, as it would on Lambda. A panic in it is an error that it
// returns. It has no timeout but that of the caller's context.
type Func func(ctx context.Context, payload []byte) (response []byte, err error)

// Invoke implements [Invoker].
func (f Func) Invoke(ctx context.Context, payload []byte, opts ...InvokeOption) (response []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	req := newRequest(opts)
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: req.id, TenantID: req.tenantID,
		InvokedFunctionArn: functionARN("us-east-1", "000000000000", "func")})
	//lint:ignore SA1029 the key that aws-lambda-go uses
	ctx = context.WithValue(ctx, "x-amzn-trace-id", req.traceID)
	defer func() {
		if cause := recover(); cause != nil {
			err = &FunctionError{Type: typeName(cause), Message: fmt.Sprintf("%v\n%s", cause, debug.Stack())}
		}
	}()
	response, err = f(ctx, payload)
	if err == nil {
		return response, nil
	}
	if _, ok := errors.AsType[*ThrottleError](err); ok {
		return nil, err // a test plays a function that is busy
	}
	if own, ok := errors.AsType[*FunctionError](err); ok {
		return nil, own
	}
	return nil, &FunctionError{Type: typeName(err), Message: err.Error(), cause: err}
}

// typeName is what aws-lambda-go says about an error.
func typeName(v any) string {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

func functionARN(region, account, name string) string {
	return fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", region, account, name)
}

// FunctionError says that the function was run and failed: it returned an error or
// panicked, and then Type and Message are its own, or Lambda ended it, and then the error
// Is one of [ErrTimeout], [ErrExit], [ErrInit] and [ErrResponseTooLarge]. Encoded as JSON
// it is the payload that AWS answers with.
type FunctionError struct {
	Type    string       `json:"errorType"`
	Message string       `json:"errorMessage"`
	Stack   []StackFrame `json:"stackTrace,omitempty"`

	cause error // of a Func
}

// StackFrame is a line of the stack of a panic.
type StackFrame struct {
	Path  string `json:"path"`
	Line  int    `json:"line"`
	Label string `json:"label"`
}

// What Lambda itself reports about a function. Compare by errors.Is.
var (
	// ErrTimeout: the function ran into its timeout and was killed.
	ErrTimeout = &FunctionError{Type: "Sandbox.Timedout"}
	// ErrExit: its process ended while it was to work.
	ErrExit = &FunctionError{Type: "Runtime.ExitError"}
	// ErrInit: its process could not be started, or did not ask for an event in time.
	ErrInit = &FunctionError{Type: "Runtime.InitError"}
	// ErrResponseTooLarge: the response has more than 6 MB.
	ErrResponseTooLarge = &FunctionError{Type: "Function.ResponseSizeTooLarge"}
)

func (e *FunctionError) Error() string { return "lambda: " + e.Type + ": " + e.Message }

// Is is true of another FunctionError with the same Type.
func (e *FunctionError) Is(target error) bool {
	t, ok := target.(*FunctionError)
	return ok && t.Type == e.Type
}

// Unwrap is the error that a [Func] returned.
func (e *FunctionError) Unwrap() error { return e.cause }

// functionError decodes the JSON that a runtime reports an error with.
func functionError(body []byte) *FunctionError {
	var e FunctionError
	if err := json.Unmarshal(body, &e); err != nil || e.Type == "" && e.Message == "" {
		return &FunctionError{Type: "Runtime.Unknown", Message: string(body)}
	}
	return &e
}

// ThrottleError says that the function was not run: Limit invocations are running. AWS
// calls it TooManyRequestsException, HTTP status 429.
type ThrottleError struct{ Limit int }

func (e *ThrottleError) Error() string {
	return fmt.Sprintf("lambda: TooManyRequestsException: Rate Exceeded: %d invocations are running", e.Limit)
}

// ErrClosed says that the runtime or the queue was closed.
var ErrClosed = errors.New("lambda: closed")
