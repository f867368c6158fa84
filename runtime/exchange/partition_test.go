package exchange

import "testing"

func TestCheckPartition(t *testing.T) {
	typ, err := TypeOf[small]()
	if err != nil {
		t.Fatal(err)
	}
	if err := typ.CheckPartition("parse", "place", func(small, int) int { return 0 }); err != nil {
		t.Error(err)
	}
	wantError(t, typ.CheckPartition("parse", "place", nil), "parse", "place", "partitioner")
	wantError(t, typ.CheckPartition("parse", "place", func(text, int) int { return 0 }), "parse", "place", "small")
}
