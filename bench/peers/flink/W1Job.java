import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.JobExecutionResult;
import org.apache.flink.api.common.accumulators.LongCounter;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.Collector;

/**
 * Workload W1 by hand on Flink: one file source in time order, keyed by user, heap state, object reuse.
 *
 * <p>Does less than the store: no event log is kept, sums are plain additions, a seven-day window lets
 * go only when its own user's next event of that type comes (no timers), the feed is counted, not written.
 * Arguments: CSV file, parallelism, checkpoint interval in ms (0: none), checkpoint directory.
 */
public final class W1Job {
  static final String[] TYPES = {"page.view", "cart.add", "email.open", "purchase"};
  static final long WINDOW_MS = 7 * 86_400_000L;
  static final int SEGMENTS = 100;

  /** One user's aggregates, by event type; level: how many thresholds each of 16 columns has reached. */
  public static class Profile {
    public int[] counts = new int[4];
    public double[] sums = new double[4];
    public double[] maxima = new double[4];
    public long[] lasts = new long[4];
    public long[][] window = new long[4][];
    public int[] head = new int[4];
    public int[] inside = new int[4];
    public int[] level = new int[16];
    public long newest = -1;
    public String newestId = "";

    public Profile() {}
  }

  /** Thresholds of the segments over one column, ascending, and those segments' numbers. */
  static double[][] thresholds = new double[16][];
  static int[][] names = new int[16][];

  static {
    for (int column = 0; column < 16; column++) {
      List<double[]> rungs = new ArrayList<>();
      for (int k = column; k < SEGMENTS; k += 16) {
        double scale = column / 4 == 1 || column / 4 == 2 ? 50 : 1;
        rungs.add(new double[] {(k % 7 + 1) * scale, k});
      }
      rungs.sort((a, b) -> Double.compare(a[0], b[0]));
      thresholds[column] = rungs.stream().mapToDouble(r -> r[0]).toArray();
      names[column] = rungs.stream().mapToInt(r -> (int) r[1]).toArray();
    }
  }

  static final class Fold extends KeyedProcessFunction<String, String, String> {
    private transient ValueState<Profile> state;
    private final LongCounter rows = new LongCounter();
    private final LongCounter changes = new LongCounter();
    private final LongCounter[] sizes = new LongCounter[SEGMENTS];

    @Override
    public void open(OpenContext context) {
      state = getRuntimeContext().getState(new ValueStateDescriptor<>("profile", Profile.class));
      getRuntimeContext().addAccumulator("rows", rows);
      getRuntimeContext().addAccumulator("changes", changes);
      for (int k = 0; k < SEGMENTS; k++) {
        sizes[k] = new LongCounter();
        getRuntimeContext().addAccumulator("g_" + k, sizes[k]);
      }
    }

    @Override
    public void processElement(String line, Context context, Collector<String> out)
        throws Exception {
      int a = line.indexOf(','), b = line.indexOf(',', a + 1), c = line.indexOf(',', b + 1);
      int d = line.indexOf(',', c + 1), e = line.indexOf(',', d + 1);
      String id = line.substring(0, a);
      long when;
      double price;
      try {
        when = Long.parseLong(line, b + 1, c, 10);
        price = Double.parseDouble(line.substring(d + 1, e));
      } catch (NumberFormatException bad) {
        return;
      }
      int kind = -1;
      for (int i = 0; i < 4; i++) {
        if (TYPES[i].length() == d - c - 1 && line.startsWith(TYPES[i], c + 1)) {
          kind = i;
        }
      }
      if (kind < 0 || !Double.isFinite(price)) {
        return;
      }
      Profile p = state.value();
      if (p == null) {
        p = new Profile();
      }
      if (when == p.newest && id.equals(p.newestId)) {
        return;
      }
      p.newest = when;
      p.newestId = id;
      rows.add(1);
      p.counts[kind]++;
      p.sums[kind] += price;
      p.maxima[kind] = Math.max(p.maxima[kind], price);
      p.lasts[kind] = Math.max(p.lasts[kind], when);
      slide(p, kind, when);
      settle(p, kind, p.counts[kind]);
      settle(p, 4 + kind, p.sums[kind]);
      settle(p, 8 + kind, p.maxima[kind]);
      settle(p, 12 + kind, p.inside[kind]);
      state.update(p);
    }

    /** Add an event to its type's window (a growing array with a head) and drop what left it. */
    private static void slide(Profile p, int kind, long when) {
      long[] window = p.window[kind];
      int head = p.head[kind], size = p.inside[kind];
      while (size > 0 && window[head] < when - WINDOW_MS) {
        head++;
        size--;
      }
      if (window == null || head + size == window.length) {
        long[] moved = new long[Math.max(4, size * 2)];
        if (size > 0) {
          System.arraycopy(window, head, moved, 0, size);
        }
        window = p.window[kind] = moved;
        head = 0;
      }
      window[head + size] = when;
      p.head[kind] = head;
      p.inside[kind] = size + 1;
    }

    /** Move a column's level to its value; each rung passed is one membership change. */
    private void settle(Profile p, int column, double value) {
      double[] rungs = thresholds[column];
      int level = p.level[column];
      while (level < rungs.length && value >= rungs[level]) {
        sizes[names[column][level++]].add(1);
        changes.add(1);
      }
      while (level > 0 && value < rungs[level - 1]) {
        sizes[names[column][--level]].add(-1);
        changes.add(1);
      }
      p.level[column] = level;
    }
  }

  public static void main(String[] args) throws Exception {
    int parallelism = Integer.parseInt(args[1]);
    long every = Long.parseLong(args[2]);
    Configuration settings = new Configuration();
    settings.setString("state.backend.type", "hashmap");
    settings.setString("taskmanager.numberOfTaskSlots", String.valueOf(parallelism));
    settings.setString("execution.checkpointing.dir", "file://" + args[3]);
    StreamExecutionEnvironment env =
        StreamExecutionEnvironment.createLocalEnvironment(parallelism, settings);
    env.getConfig().enableObjectReuse();
    if (every > 0) {
      env.enableCheckpointing(every);
    }
    FileSource<String> source =
        FileSource.forRecordStreamFormat(new TextLineInputFormat(), new Path(args[0])).build();
    // One reader keeps the file's order; parsing is left to the keyed side, which has both cores.
    env.fromSource(source, WatermarkStrategy.noWatermarks(), "csv")
        .setParallelism(1)
        .filter(line -> !line.startsWith("_id,"))
        .setParallelism(1)
        .keyBy(
            line -> {
              int a = line.indexOf(',');
              return line.substring(a + 1, line.indexOf(',', a + 1));
            })
        .process(new Fold())
        .sinkTo(new DiscardingSink<>());
    long started = System.nanoTime();
    JobExecutionResult result = env.execute("w1");
    double seconds = (System.nanoTime() - started) / 1e9;
    StringBuilder sizes = new StringBuilder();
    for (int k = 0; k < SEGMENTS; k++) {
      Object size = result.getAccumulatorResult("g_" + k);
      sizes.append(k == 0 ? "" : ",").append("\"g_").append(k).append("\":").append(size);
    }
    System.out.printf(
        "{\"seconds\":%.3f,\"rows\":%s,\"changes\":%s,\"sizes\":{%s}}%n",
        seconds,
        result.getAccumulatorResult("rows"),
        result.getAccumulatorResult("changes"),
        sizes);
  }
}
