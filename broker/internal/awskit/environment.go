package awskit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
)

var errNoCredentials = errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and a binary built with the tag lambda.norpc has no other credentials: build it without the tag, or give the broker a configuration")

// environment is what the SDK makes of the environment, without its files and without the
// chain of credentials. Credentials are missed when they are needed, as in the SDK.
func environment() (aws.Config, error) {
	env, err := config.NewEnvConfig()
	if err != nil {
		return aws.Config{}, err
	}
	cfg := aws.Config{
		Region:             env.Region,
		RetryMode:          env.RetryMode,
		RetryMaxAttempts:   env.RetryMaxAttempts,
		DefaultsMode:       env.DefaultsMode,
		RuntimeEnvironment: aws.RuntimeEnvironment{EnvironmentIdentifier: aws.ExecutionEnvironmentID(os.Getenv("AWS_EXECUTION_ENV")), Region: env.Region},
		AppID:              env.AppID,
		ConfigSources:      []any{env}, // clients look for their endpoints here
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			if !env.Credentials.HasKeys() {
				return aws.Credentials{}, errNoCredentials
			}
			return env.Credentials, nil
		}),
	}
	if env.BaseEndpoint != "" && !aws.ToBool(env.IgnoreConfiguredEndpoints) {
		cfg.BaseEndpoint = &env.BaseEndpoint
	}
	if env.CustomCABundle != "" {
		if cfg.HTTPClient, err = trusting(env.CustomCABundle); err != nil {
			return aws.Config{}, fmt.Errorf("AWS_CA_BUNDLE: %w", err)
		}
	}
	return cfg, nil
}

// trusting is a client that trusts the authorities of a file, and no other.
func trusting(file string) (aws.HTTPClient, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		t.TLSClientConfig.RootCAs = authorities
	}), nil
}
