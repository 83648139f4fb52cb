// Package dev is for programs on the machine of a developer.
package dev

import "os"

// LocalStack makes the clients of AWS of this process talk to LocalStack, if
// LOCALSTACK_ENDPOINT says where it is. A function that is deployed does without this.
func LocalStack() {
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		return
	}
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL":      endpoint,
		"AWS_REGION":            "us-east-1",
		"AWS_ACCESS_KEY_ID":     "test",
		"AWS_SECRET_ACCESS_KEY": "test",
	} {
		if os.Getenv(name) == "" {
			os.Setenv(name, value)
		}
	}
}
