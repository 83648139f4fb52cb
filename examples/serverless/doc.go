// Package serverless is about its folders: functions of AWS Lambda that are services as
// well, one for each source. The tests beside this file run them both ways, as processes
// of their own.
//
// Folder functions has the same for Lambda alone: such a function links no client of AWS
// unless it emits.
package serverless
