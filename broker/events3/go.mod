module github.com/fogfish/swarm/broker/events3

go 1.26

require github.com/fogfish/swarm/core v0.1.0

replace github.com/fogfish/swarm/core => ../../core
