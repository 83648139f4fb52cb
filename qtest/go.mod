module github.com/fogfish/swarm/qtest

go 1.26

require github.com/fogfish/swarm/core v0.1.0

replace github.com/fogfish/swarm/core => ../core
