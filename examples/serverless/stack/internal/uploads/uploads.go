// Package uploads has what functions of the joined application say to each other.
package uploads

// Uploaded is a file that has come: an event, an item of the table, and what clients see.
type Uploaded struct {
	Bucket string `json:"bucket" dynamodbav:"bucket"`
	Key    string `json:"key" dynamodbav:"key"`
	Size   int64  `json:"size" dynamodbav:"size"`
}

// Topic has the clients that want to know of uploads: all of them.
const Topic = "uploads"
