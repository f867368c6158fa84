package kinesis

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"
)

// TestAWSCLI uses the unmodified command line of AWS.
func TestAWSCLI(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		if required("awscli") {
			t.Fatal("the AWS CLI is required here: ", err)
		}
		t.Skip("the AWS CLI is not installed (Debian: awscli)")
	}
	r := newRig(t, nil)
	aws := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "aws", append([]string{"--endpoint-url", r.url, "--region", "us-west-2", "--output", "json", "kinesis"}, args...)...)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("aws kinesis %v: %v", args, err)
		}
		return out
	}
	aws("create-stream", "--stream-name", "cli", "--shard-count", "1")
	aws("put-record", "--stream-name", "cli", "--partition-key", "k", "--data", "aGVsbG8=")
	var it struct{ ShardIterator string }
	if err := json.Unmarshal(aws("get-shard-iterator", "--stream-name", "cli", "--shard-id", "shardId-000000000000", "--shard-iterator-type", "TRIM_HORIZON"), &it); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Records []struct{ PartitionKey string }
	}
	if err := json.Unmarshal(aws("get-records", "--shard-iterator", it.ShardIterator), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Records) != 1 || got.Records[0].PartitionKey != "k" {
		t.Fatalf("records %+v", got)
	}
	aws("delete-stream", "--stream-name", "cli")
}
