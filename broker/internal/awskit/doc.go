// Package awskit is what the brokers on AWS have in common: a client with enough
// connections, options of their builders, the answers of batch requests, errors that are
// worth another attempt, and how messages and their attributes are written.
//
// It is a part of these brokers and no API: it changes without notice.
package awskit
