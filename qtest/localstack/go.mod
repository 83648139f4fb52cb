module github.com/fogfish/swarm/qtest/localstack

go 1.26
