package api

import _ "embed"

// OpenAPI is the specification of the REST interface. It is kept by hand;
// tests compare it with the routes and the answers of a running server.
//
//go:embed openapi.yaml
var OpenAPI []byte
