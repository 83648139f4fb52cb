module github.com/fogfish/swarm/broker/eventddb

go 1.26

require (
	github.com/aws/aws-lambda-go v1.55.1
	github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue v1.21.20
	github.com/fogfish/swarm/broker/internal v0.1.0
	github.com/fogfish/swarm/core v0.1.0
	github.com/fogfish/swarm/qtest v0.0.0-00010101000000-000000000000
)

require (
	github.com/aws/aws-sdk-go-v2/service/dynamodb v1.73.2 // indirect
	github.com/aws/aws-sdk-go-v2/service/dynamodbstreams v1.46.7 // indirect
	github.com/aws/smithy-go v1.28.9 // indirect
)

replace (
	github.com/fogfish/swarm/broker/internal => ../internal
	github.com/fogfish/swarm/core => ../../core
	github.com/fogfish/swarm/qtest => ../../qtest
	github.com/fogfish/swarm/qtest/localstack => ../../qtest/localstack
)
