package server

import (
	"context"
	"time"

	pb "github.com/millrace/millrace/proto/millrace/v1"
	"github.com/millrace/millrace/stream"
	"github.com/millrace/millrace/stream/block"
	"github.com/millrace/millrace/stream/shardlog"
)

const (
	// maxWait bounds a read's wait at the tip.
	maxWait = 60 * time.Second
	// maxReadBytes bounds a read's block; one record may go beyond it.
	maxReadBytes = block.MaxBytes - stream.MaxRecordBytes - 1<<10
)

// answer carries out one request. The block of a request is handed over to the
// log; that of an answer is the caller's.
func (s *Server) answer(ctx context.Context, req *pb.ShardRequest, records block.Block) (*pb.ShardResponse, block.Block) {
	resp := &pb.ShardResponse{}
	var out block.Block
	var err error
	switch {
	case req.GetDescribe() != nil:
		err = s.describe(resp, req.GetDescribe())
	case req.GetRead() != nil:
		out, err = s.read(ctx, resp, req.GetRead())
	case req.GetAppend() != nil:
		err = s.append(ctx, resp, req.GetAppend(), records)
	case req.GetStage() != nil:
		err = s.stage(ctx, resp, req.GetStage(), records)
	case req.GetCommit() != nil:
		err = s.commit(ctx, resp, req.GetCommit())
	case req.GetFence() != nil:
		err = s.fence(ctx, resp, req.GetFence())
	case req.GetTip() != nil:
		err = s.tip(resp, req.GetTip())
	case req.GetCommand() != nil:
		err = s.host.Command(ctx, req.GetCommand())
	default:
		err = stream.Errorf(stream.InvalidArgument, "request of a kind that this host does not know: upgrade it")
	}
	if err != nil {
		return &pb.ShardResponse{Error: stream.ToProto(err)}, nil
	}
	return resp, out
}

func (s *Server) describe(resp *pb.ShardResponse, r *pb.ShardDescribe) error {
	cat := s.host.Current()
	if cat == nil {
		return stream.Errorf(stream.Unavailable, "this task manager has not heard of the catalog yet")
	}
	if r.GetStream() == "" {
		resp.Body = &pb.ShardResponse_Catalog{Catalog: cat}
		return nil
	}
	for _, st := range cat.GetStreams() {
		if st.GetName() == r.GetStream() {
			resp.Body = &pb.ShardResponse_Catalog{Catalog: &pb.Catalog{Version: cat.GetVersion(), Streams: []*pb.Stream{st}, Hosts: cat.GetHosts()}}
			return nil
		}
	}
	return stream.Errorf(stream.NotFound, "stream %s does not exist", r.GetStream())
}

func (s *Server) read(ctx context.Context, resp *pb.ShardResponse, r *pb.ShardRead) (block.Block, error) {
	id, err := s.host.Local(r.GetShard())
	if err != nil {
		return nil, err
	}
	at := stream.Position{From: stream.FromTrimHorizon}
	switch {
	case r.GetLatest():
		at.From = stream.FromLatest
	case r.GetAtTimestampMs() != 0:
		at = stream.Position{From: stream.FromTimestamp, Timestamp: r.GetAtTimestampMs()}
	case len(r.GetAfter()) > 0:
		at.From = stream.FromAfterSequence
		if at.Sequence, err = stream.SequenceFromBytes(r.GetAfter()); err != nil {
			return nil, err
		}
	}
	got, err := s.log.Read(ctx, id, shardlog.ReadRequest{
		At:         at,
		MaxRecords: int(min(r.GetMaxRecords(), 1<<20)),
		MaxBytes:   int(min(r.GetMaxBytes(), maxReadBytes)),
		Wait:       min(time.Duration(r.GetWaitMs())*time.Millisecond, maxWait),
	})
	if err != nil {
		return nil, err
	}
	resp.Body = &pb.ShardResponse_Read{Read: &pb.ShardReadResult{
		Records: uint32(got.Records.Count()), Next: got.Next[:], Tip: got.Tip[:],
		MillisBehind: got.MillisBehind, Skipped: got.Skipped, EndOfShard: got.End,
	}}
	return got.Records, nil
}

func (s *Server) append(ctx context.Context, resp *pb.ShardResponse, r *pb.ShardAppend, records block.Block) error {
	id, err := s.host.Local(r.GetShard())
	if err != nil {
		return err
	}
	if err := checkCount(r.GetRecords(), records); err != nil {
		return err
	}
	first, last, err := s.log.Append(ctx, id, records)
	if err != nil {
		return err
	}
	resp.Body = &pb.ShardResponse_Append{Append: &pb.ShardAppendResult{FirstSequence: first[:], LastSequence: last[:]}}
	return nil
}

func (s *Server) stage(ctx context.Context, resp *pb.ShardResponse, r *pb.ShardStage, records block.Block) error {
	id, err := s.host.Local(r.GetShard())
	if err != nil {
		return err
	}
	if err := checkCount(r.GetRecords(), records); err != nil {
		return err
	}
	resp.Body = &pb.ShardResponse_Stage{Stage: &pb.ShardStageResult{}}
	return s.log.Stage(ctx, id, r.GetTransaction(), r.GetSubtask(), r.GetBlock(), records)
}

func checkCount(named uint32, records block.Block) error {
	if int(named) != records.Count() {
		return stream.Errorf(stream.InvalidArgument, "request names %d records, its block holds %d", named, records.Count())
	}
	return nil
}

func (s *Server) commit(ctx context.Context, resp *pb.ShardResponse, r *pb.ShardCommit) error {
	id, err := s.host.Local(r.GetShard())
	if err != nil {
		return err
	}
	n, already, err := s.log.Commit(ctx, id, r.GetTransaction(), r.GetStaged())
	if stream.KindOf(err) == stream.Closed {
		n, already, err = s.host.Move(ctx, r.GetShard(), id, r.GetTransaction(), r.GetStaged())
	}
	resp.Body = &pb.ShardResponse_Commit{Commit: &pb.ShardCommitResult{Already: already, Records: n}}
	return err
}

func (s *Server) fence(ctx context.Context, resp *pb.ShardResponse, r *pb.ShardFence) error {
	id, err := s.host.Local(r.GetShard())
	if err != nil {
		return err
	}
	dropped, err := s.log.Fence(ctx, id, r.GetLineage(), r.GetSink(), r.GetEpoch(), r.GetKeep())
	resp.Body = &pb.ShardResponse_Fence{Fence: &pb.ShardFenceResult{AbortedBlocks: dropped}}
	return err
}

func (s *Server) tip(resp *pb.ShardResponse, r *pb.ShardTip) error {
	id, err := s.host.Local(r.GetShard())
	if err != nil {
		return err
	}
	tip, err := s.log.Tip(id)
	if err != nil {
		return err
	}
	result := &pb.ShardTipResult{}
	if tip.Place() > 0 {
		result.Tip = tip[:]
	}
	resp.Body = &pb.ShardResponse_Tip{Tip: result}
	return nil
}
