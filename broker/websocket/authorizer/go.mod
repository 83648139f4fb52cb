module github.com/fogfish/swarm/broker/websocket/authorizer

go 1.26

require (
	github.com/aws/aws-lambda-go v1.55.1
	github.com/golang-jwt/jwt/v5 v5.3.1
)
