// Package awskit is what the brokers on AWS have in common: a client with enough
// connections, options of their builders, the queue, topic or bus that these are for, the
// answers of batch requests, and errors that are worth another attempt.
//
// It is a part of these brokers and no API: it changes without notice.
package awskit
