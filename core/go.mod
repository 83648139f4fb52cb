module github.com/fogfish/swarm/core

go 1.26
