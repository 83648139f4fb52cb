// Package authorizer decides who may connect to a WebSocket API of AWS API Gateway: it is
// the handler of a Lambda function that the API has as its REQUEST authorizer. Clients show
// an API key or a JSON Web Token (JWT) in the query string, where browsers can put it.
//
//	handler, err := authorizer.New(
//		authorizer.WithAPIKey("ada", secret, "chat:read", "chat:write"),
//		authorizer.WithJWT("https://issuer.example.com", "chat"),
//	)
//	lambda.Start(handler)
//
// cmd/authorizer is this function, ready made; see [WithConfigFromEnv].
//
// # API keys
//
// The query string has the key that [APIKey] makes, percent-encoded, as apikey or token,
// and may have a scope: names separated by spaces, each of them one that the key may have.
// A connection gets the scope that it asks for, and none when it asks for none. Keys are
// also taken in the URL-safe alphabet, with padding, and with the plus sign turned into a
// space, as happens to clients that do not encode it: all of these are the same bytes.
//
// # Tokens
//
// The query string has the token as token. It must be signed by a key that the issuer
// publishes, of at most 8 KiB, and have kid, iss, aud, sub and exp; nbf and iat count when
// it has them. Clocks may be apart by [WithLeeway]. The signature is of RS256, PS256, ES256
// or EdDSA, or of what [WithAlgorithms] says. Tokens with critical extensions (crit) are
// refused: none is understood.
//
// The keys are the JSON Web Key Set (JWKS) at /.well-known/jwks.json of the issuer, or at
// [WithJWKS]. They are asked for again after 15 minutes, and when a token names a key that is
// not among them, but that once in 30 seconds for all clients together. While the issuer
// does not answer, the keys it gave stay good for 4 hours, and it is asked every 5 seconds.
// RSA keys below 2048 bits are not used. Redirects are not followed.
//
// # Answers
//
//	Allow            $connect is invoked
//	Deny             403: the client is known, its key does not have the scope it asks for
//	ErrUnauthorized  401: anything else that is wrong with the request
//	another error    500: the function's fault, such as keys it cannot get; connect again
//
// Later events of the connection have, in the context of the authorizer:
//
//	auth             basic (API key) or jwt
//	principalId      who it is: access, or sub of the token. Where clients may have either,
//	                 only auth and principalId together say who: an issuer may name its
//	                 user as an access
//	sub              the same
//	scope            separated by spaces; of a token, its claim
//	iss              of a token
//	exp, nbf, iat    of a token, in seconds since 1970; 0 when it has none
//
// API Gateway hands all of them over as strings. A connection that was let in stays open,
// for up to 2 hours, also when its token expires; whoever minds looks at exp.
//
// Refusals are logged with their reason. Credentials are never logged, nor in an error.
//
// # The function
//
// The identity source of the authorizer is route.request.querystring.apikey or .token, or
// empty when clients may have either: API Gateway wants all sources that are configured.
// Give the function a timeout of 10 seconds, since the issuer has 5 to answer, and access
// to the internet when it checks tokens. It needs no permission.
package authorizer
