//go:build !lambda.norpc

package awskit

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// load is the configuration of the SDK: environment, files, and the chain of credentials.
func load(ctx context.Context) (aws.Config, error) { return config.LoadDefaultConfig(ctx) }
