// Package wire is how messages look on AWS: attributes beside a text, and the envelopes
// that SNS, EventBridge and S3 put around what they pass on. It imports no SDK: Lambda
// functions read the same shapes.
//
// It is a part of the brokers and no API: it changes without notice.
package wire
