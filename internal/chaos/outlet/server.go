package outlet

import (
	"context"
	"encoding/gob"
	"net"
	"sync"
)

// Serve answers the connections of a listener until ctx ends, and closes it.
func (s *Store) Serve(ctx context.Context, l net.Listener) {
	var group sync.WaitGroup
	defer group.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		group.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			s.serve(conn)
		})
	}
}

func (s *Store) serve(conn net.Conn) {
	dec, enc := gob.NewDecoder(conn), gob.NewEncoder(conn)
	for {
		var r Request
		if dec.Decode(&r) != nil {
			return // the other side is gone, or was cut off in the middle
		}
		a := s.Do(&r)
		if enc.Encode(&a) != nil {
			return
		}
	}
}
