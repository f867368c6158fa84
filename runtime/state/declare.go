package state

import pb "github.com/millrace/millrace/proto/millrace/v1"

// DeclareTable describes the state that NewTable would make, for the job graph,
// and refuses types that have no codec. So a job with state that cannot be
// kept fails when it is planned.
func DeclareTable[K comparable, V any](name, kind string) (*pb.StateDecl, error) {
	panic("state: not yet")
}

// DeclareSpaces is DeclareTable for NewSpaces.
func DeclareSpaces[K comparable, V any](name, kind string) (*pb.StateDecl, error) {
	panic("state: not yet")
}

// DeclareValue, DeclareList and DeclareMap are for the handles.
func DeclareValue[K comparable, V any](name string) ([]*pb.StateDecl, error) {
	panic("state: not yet")
}

// DeclareList describes what NewList makes.
func DeclareList[K comparable, E any](name string) ([]*pb.StateDecl, error) {
	panic("state: not yet")
}

// DeclareMap describes what NewMap makes.
func DeclareMap[K, MK comparable, MV any](name string) ([]*pb.StateDecl, error) {
	panic("state: not yet")
}

// CompatibleState says whether state declared as old can be restored to new.
func CompatibleState(old, new *pb.StateDecl) error { panic("state: not yet") }
