package org.millrace.peers.flink.sql;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.functions.ScalarFunction;

/** {@code count_char(text, letter)} of q14: how often a letter of one byte stands in a text. */
public final class CountChar extends ScalarFunction {
    public long eval(@DataTypeHint("STRING") StringData text, @DataTypeHint("STRING") StringData letter) {
        if (text == null || letter == null) {
            return 0;
        }
        byte wanted = letter.toBytes()[0];
        long count = 0;
        for (byte b : text.toBytes()) {
            if (b == wanted) {
                count++;
            }
        }
        return count;
    }
}
