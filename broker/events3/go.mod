module github.com/fogfish/swarm/broker/events3

go 1.26

require (
	github.com/aws/aws-lambda-go v1.55.1
	github.com/fogfish/swarm/broker/internal v0.1.0
	github.com/fogfish/swarm/core v0.1.0
	github.com/fogfish/swarm/qtest v0.1.0
)

replace (
	github.com/fogfish/swarm/broker/internal => ../internal
	github.com/fogfish/swarm/core => ../../core
	github.com/fogfish/swarm/qtest => ../../qtest
)
