package awstest

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

// Invoker makes invocations as the runtime does, whose buffer is used again, of a source
// that takes one answer for all messages.
func Invoker(t *testing.T, h lambda.Handler) func(payload string) error {
	return func(payload string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		given := []byte(payload)
		out, err := h.Invoke(ctx, given)
		clear(given)
		if err == nil && string(out) != "null" {
			t.Errorf("answers %s", out)
		}
		return err
	}
}
