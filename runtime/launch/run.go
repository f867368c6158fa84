package launch

import "github.com/millrace/millrace/runtime/graph"

func run(func() (*graph.Graph, error)) int { return 1 }
