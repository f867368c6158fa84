package ledger

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Record is one entry of one account.
type Record struct {
	Key, Seq uint64
	Amount   int64
	// Time is the event time in Unix milliseconds.
	Time int64
}

// recordSize is the length of an encoded record.
const recordSize = 32

// AppendRecord encodes r behind dst.
func AppendRecord(dst []byte, r Record) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, r.Key)
	dst = binary.LittleEndian.AppendUint64(dst, r.Seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Amount))
	return binary.LittleEndian.AppendUint64(dst, uint64(r.Time))
}

// DecodeRecord decodes what AppendRecord wrote.
func DecodeRecord(b []byte) (Record, error) {
	if len(b) != recordSize {
		return Record{}, fmt.Errorf("a record of %d bytes, want %d", len(b), recordSize)
	}
	le := binary.LittleEndian
	return Record{Key: le.Uint64(b), Seq: le.Uint64(b[8:]), Amount: int64(le.Uint64(b[16:])), Time: int64(le.Uint64(b[24:]))}, nil
}

// The job's own figures, which its oracle shares.
const (
	// WindowMillis is the size of the tumbling windows.
	WindowMillis = 10_000
	// Bound is how far records may be out of order and still count.
	Bound = 5 * time.Second
	// TimerDelay is from an entry to its timer, in milliseconds.
	TimerDelay = 3000
)

// HasTimer says whether the job sets a timer for an entry: for every fourth,
// unless it was made to come late.
func HasTimer(r Record, late bool) bool { return r.Seq%4 == 3 && !late }

// WindowOf is the start of an event time's window.
func WindowOf(ms int64) int64 { return ms - ms%WindowMillis }

// Kind is what a row is about.
type Kind uint8

const (
	// Entry: an entry of an account; Sum is the account's sum with it.
	Entry Kind = 1 + iota
	// Repeat: an entry whose number the account has seen before: it is in the
	// input twice.
	Repeat
	// Window: Seq entries of the window that begins at Time sum up to Amount.
	Window
	// Late: an entry that came after its window had fired.
	Late
	// Timer: the timer at Time fired.
	Timer
)

func (k Kind) String() string {
	if k < Entry || k > Timer {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return [...]string{"entry", "repeat", "window", "late", "timer"}[k-1]
}

// Row is one line of output.
type Row struct {
	Kind     Kind
	Key, Seq uint64
	Amount   int64
	Time     int64
	Sum      int64
}

// RowSize is the length of an encoded row.
const RowSize = 41

// AppendRow encodes r behind dst.
func AppendRow(dst []byte, r Row) []byte {
	dst = append(dst, byte(r.Kind))
	for _, v := range [...]uint64{r.Key, r.Seq, uint64(r.Amount), uint64(r.Time), uint64(r.Sum)} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// DecodeRow decodes what AppendRow wrote.
func DecodeRow(b []byte) (Row, error) {
	if len(b) != RowSize {
		return Row{}, fmt.Errorf("a row of %d bytes, want %d", len(b), RowSize)
	}
	le := binary.LittleEndian
	return Row{
		Kind: Kind(b[0]), Key: le.Uint64(b[1:]), Seq: le.Uint64(b[9:]),
		Amount: int64(le.Uint64(b[17:])), Time: int64(le.Uint64(b[25:])), Sum: int64(le.Uint64(b[33:])),
	}, nil
}

func (r Row) digest() uint64 {
	h := mix(uint64(r.Kind))
	for _, v := range [...]uint64{r.Key, r.Seq, uint64(r.Amount), uint64(r.Time), uint64(r.Sum)} {
		h = mix(h ^ v)
	}
	return h
}

func (r Row) String() string {
	switch r.Kind {
	case Window:
		return fmt.Sprintf("window %d of key %d: %d entries, sum %d", r.Time, r.Key, r.Seq, r.Amount)
	case Timer:
		return fmt.Sprintf("timer %d of key %d", r.Time, r.Key)
	}
	return fmt.Sprintf("%v %d of key %d: amount %d, sum %d", r.Kind, r.Seq, r.Key, r.Amount, r.Sum)
}

// Script is the input as a function of its number.
type Script struct {
	Seed uint64
	// Keys is the number of accounts, which take turns.
	Keys uint64
	// Timely leaves out the entries that come late: then the output is a function
	// of the input alone.
	Timely bool
}

// Figures of the script, in milliseconds of event time.
const (
	begin  = 1_767_225_600_000 // 2026-01-01
	turn   = 2000              // between two entries of an account
	jitter = 500
	// lateBy is more than a window and Bound.
	lateBy = 60_000
	// lateEvery: about one in this many comes late.
	lateEvery = 50
)

// Record is number i.
func (s Script) Record(i uint64) Record {
	r := Record{Key: i % s.Keys, Seq: i / s.Keys}
	h := mix(s.Seed ^ mix(i))
	r.Amount = int64(h%2001) - 1000
	// Times of one account rise with its numbers: jitter is less than a turn.
	r.Time = begin + int64(r.Seq*turn+r.Key*turn/s.Keys) - int64(h>>20%jitter)
	if s.Late(i) {
		r.Time -= lateBy
	}
	return r
}

// Late says that number i was made to come late.
func (s Script) Late(i uint64) bool {
	return !s.Timely && i/s.Keys > lateBy/turn && mix(s.Seed+mix(i))%lateEvery == 0
}

// Number is the number of an account's entry.
func (s Script) Number(key, seq uint64) uint64 { return seq*s.Keys + key }

// mix is splitmix64's finalizer.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
