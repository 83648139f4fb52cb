module github.com/fogfish/swarm/examples/serverless/stack

go 1.26.0

require (
	github.com/aws/aws-cdk-go/awscdk/v2 v2.224.0
	github.com/aws/aws-sdk-go-v2 v1.48.0
	github.com/aws/aws-sdk-go-v2/config v1.33.16
	github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue v1.21.20
	github.com/aws/aws-sdk-go-v2/service/dynamodb v1.73.2
	github.com/aws/jsii-runtime-go v1.119.0
	github.com/fogfish/scud v0.13.2
	github.com/fogfish/swarm/broker/eventbridge v0.1.0
	github.com/fogfish/swarm/broker/eventddb v0.1.0
	github.com/fogfish/swarm/broker/events3 v0.1.0
	github.com/fogfish/swarm/broker/sqs v0.1.0
	github.com/fogfish/swarm/broker/websocket v0.1.0
	github.com/fogfish/swarm/cdk v0.1.0
	github.com/fogfish/swarm/core v0.1.0
	github.com/fogfish/swarm/qtest/local v0.1.0
)

require (
	github.com/Masterminds/semver/v3 v3.4.0 // indirect
	github.com/aws/aws-lambda-go v1.55.1 // indirect
	github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream v1.7.26 // indirect
	github.com/aws/aws-sdk-go-v2/credentials v1.20.16 // indirect
	github.com/aws/aws-sdk-go-v2/feature/ec2/imds v1.20.8 // indirect
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.5.11 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.8.11 // indirect
	github.com/aws/aws-sdk-go-v2/internal/v4a v1.5.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi v1.24.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/dynamodbstreams v1.46.7 // indirect
	github.com/aws/aws-sdk-go-v2/service/eventbridge v1.55.10 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/accept-encoding v1.13.24 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/checksum v1.11.12 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/endpoint-discovery v1.13.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/presigned-url v1.14.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/s3shared v1.20.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/s3 v1.114.9 // indirect
	github.com/aws/aws-sdk-go-v2/service/signin v1.12.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/sns v1.47.10 // indirect
	github.com/aws/aws-sdk-go-v2/service/sqs v1.52.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/sso v1.39.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/ssooidc v1.44.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/sts v1.51.9 // indirect
	github.com/aws/constructs-go/constructs/v10 v10.4.3 // indirect
	github.com/aws/smithy-go v1.28.9 // indirect
	github.com/cdklabs/awscdk-asset-awscli-go/awscliv1/v2 v2.2.257 // indirect
	github.com/cdklabs/awscdk-asset-node-proxy-agent-go/nodeproxyagentv6/v2 v2.1.0 // indirect
	github.com/cdklabs/cloud-assembly-schema-go/awscdkcloudassemblyschema/v48 v48.18.0 // indirect
	github.com/fatih/color v1.18.0 // indirect
	github.com/fogfish/swarm/broker/internal v0.1.0 // indirect
	github.com/fogfish/swarm/broker/sns v0.1.0 // indirect
	github.com/fogfish/swarm/broker/websocket/authorizer v0.1.0 // indirect
	github.com/fogfish/swarm/examples v0.1.0 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	github.com/yuin/goldmark v1.7.13 // indirect
	golang.org/x/lint v0.0.0-20241112194109-818c5a804067 // indirect
	golang.org/x/mod v0.30.0 // indirect
	golang.org/x/sync v0.18.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/telemetry v0.0.0-20251112162317-03ef243c208a // indirect
	golang.org/x/tools v0.39.0 // indirect
	golang.org/x/tools/cmd/godoc v0.1.0-deprecated // indirect
	golang.org/x/tools/godoc v0.1.0-deprecated // indirect
)

// Functions of the other module, which the applications build.
tool (
	github.com/fogfish/swarm/examples/eventddb
	github.com/fogfish/swarm/examples/serverless/functions/eventbridge
	github.com/fogfish/swarm/examples/serverless/functions/events3
	github.com/fogfish/swarm/examples/serverless/functions/sns
	github.com/fogfish/swarm/examples/serverless/sqs
)

replace (
	github.com/fogfish/swarm/broker/eventbridge => ../../../broker/eventbridge
	github.com/fogfish/swarm/broker/eventddb => ../../../broker/eventddb
	github.com/fogfish/swarm/broker/events3 => ../../../broker/events3
	github.com/fogfish/swarm/broker/internal => ../../../broker/internal
	github.com/fogfish/swarm/broker/sns => ../../../broker/sns
	github.com/fogfish/swarm/broker/sqs => ../../../broker/sqs
	github.com/fogfish/swarm/broker/websocket => ../../../broker/websocket
	github.com/fogfish/swarm/broker/websocket/authorizer => ../../../broker/websocket/authorizer
	github.com/fogfish/swarm/cdk => ../../../cdk
	github.com/fogfish/swarm/core => ../../../core
	github.com/fogfish/swarm/examples => ../../../examples
	github.com/fogfish/swarm/qtest => ../../../qtest
	github.com/fogfish/swarm/qtest/local => ../../../qtest/local
)
