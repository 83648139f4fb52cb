//go:build lambda.norpc

package awskit

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// load is the configuration of a function. AWS Lambda gives it credentials in its
// environment: the rest of the SDK's chain, with the clients that it asks, is a sixth of
// the binary.
func load(context.Context) (aws.Config, error) { return environment() }
