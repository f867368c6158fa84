package state

import pb "github.com/millrace/millrace/proto/millrace/v1"

// DeclareTable describes the state that NewTable makes, for the job graph,
// and refuses types that have no codec, so that a job with state that cannot be
// kept fails when it is planned. kind is for people: value, window, timer.
func DeclareTable[K comparable, V any](name, kind string) (*pb.StateDecl, error) {
	k, err := newKind[K, V](nil, name, nil, nil)
	if err != nil {
		return nil, err
	}
	d := k.declare(name, "")
	d.Kind = kind
	return d, nil
}

// DeclareValue describes what NewValue makes.
func DeclareValue[K comparable, V any](name string) ([]*pb.StateDecl, error) {
	d, err := DeclareTable[K, V](name, "value")
	return []*pb.StateDecl{d}, err
}

// DeclareList describes what NewList makes.
func DeclareList[K comparable, E any](name string) ([]*pb.StateDecl, error) {
	all, err := declareSized[K, ListKey[K], E](name, "list")
	if err != nil {
		return nil, err
	}
	gaps, err := DeclareTable[K, listGaps](name+gapsSuffix, "list")
	return append(all, gaps), err
}

// DeclareMap describes what NewMap makes.
func DeclareMap[K, MK comparable, MV any](name string) ([]*pb.StateDecl, error) {
	return declareSized[K, MapKey[K, MK], MV](name, "map")
}

func declareSized[K, EK comparable, E any](name, kind string) ([]*pb.StateDecl, error) {
	elements, err := DeclareTable[EK, E](name, kind)
	if err != nil {
		return nil, err
	}
	sizes, err := DeclareTable[K, uint64](name+sizeSuffix, kind)
	return []*pb.StateDecl{elements, sizes}, err
}
