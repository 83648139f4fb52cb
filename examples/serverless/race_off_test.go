//go:build !race

package serverless_test

const raced = false
