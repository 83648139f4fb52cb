package awskit

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// What functions read of the environment is what the SDK reads.
func TestTheEnvironmentIsReadAsTheSDKDoes(t *testing.T) {
	for name, vars := range map[string][]string{
		"function": {"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=token"},
		"endpoint": {"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_ENDPOINT_URL=http://127.0.0.1:1"},
		"ignored":  {"AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret"},
		"retry":    {"AWS_RETRY_MODE=adaptive", "AWS_MAX_ATTEMPTS=7", "AWS_SDK_UA_APP_ID=app", "AWS_DEFAULTS_MODE=in-region", "AWS_DEFAULT_REGION=us-west-2", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret"},
	} {
		t.Run(name, func(t *testing.T) {
			only(t, vars...)
			ours, err := environment()
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := config.LoadDefaultConfig(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if ours.Region != theirs.Region || ours.RetryMode != theirs.RetryMode || ours.RetryMaxAttempts != theirs.RetryMaxAttempts ||
				ours.AppID != theirs.AppID || aws.ToString(ours.BaseEndpoint) != aws.ToString(theirs.BaseEndpoint) {
				t.Errorf("%+v\n%+v", ours, theirs)
			}
			if name == "retry" && ours.DefaultsMode != theirs.DefaultsMode {
				t.Errorf("defaults %q, SDK %q", ours.DefaultsMode, theirs.DefaultsMode)
			}
			mine, err := ours.Credentials.Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			other, err := theirs.Credentials.Retrieve(t.Context())
			if err != nil || mine.AccessKeyID != other.AccessKeyID || mine.SecretAccessKey != other.SecretAccessKey || mine.SessionToken != other.SessionToken {
				t.Errorf("credentials differ from the SDK's: %v", err)
			}
		})
	}
}

// only leaves none of the SDK's variables but vars.
func only(t *testing.T, vars ...string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

// Without credentials a function is built: it may need none. Who needs them is told why.
func TestMissingCredentialsAreNamed(t *testing.T) {
	only(t, "AWS_REGION=eu-west-1", "AWS_PROFILE=mine")
	cfg, err := environment()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.Credentials.Retrieve(t.Context()); !errors.Is(err, errNoCredentials) {
		t.Error(err)
	}
}

// AWS_CA_BUNDLE replaces the authorities of the system.
func TestAuthoritiesOfAFile(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	write := func(b []byte) {
		if err := os.WriteFile(bundle, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	only(t, "AWS_CA_BUNDLE="+bundle)
	get := func() error {
		cfg, err := environment()
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL, nil)
		if err != nil {
			return err
		}
		resp, err := cfg.HTTPClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}

	write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if err := get(); err != nil {
		t.Error(err)
	}
	write([]byte("nothing"))
	if err := get(); err == nil || !strings.Contains(err.Error(), "AWS_CA_BUNDLE: "+bundle+" has no certificate") {
		t.Error(err)
	}
	t.Setenv("AWS_CA_BUNDLE", filepath.Join(t.TempDir(), "none"))
	if err := get(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
