# SPDX-License-Identifier: BSD-3-Clause
"""What the pages on complexity say around their numbers."""

CPU_MEASURES = (
    "**Flops** are counted: the methods run on a number type that counts each sum, difference, product and quotient.",
    "**Memory** is counted on the heap: the peak of a pass beyond inputs, outputs, parameters and gradients, in numbers "
    "of four bytes. The panels that a matrix product packs for itself are not counted.",
    "Both counts are the same in every run.",
    "**Times** are processor times in float on one thread, by Google Benchmark. The repetitions of all cases alternate "
    "in random order, and a point is their median.",
)
GPU_MEASURES = (
    "The methods run in float on memory of the device. All use the same matrix products, by cuBLAS, and never in a type "
    "shorter than float.",
    "**Flops** are not counted here: the CPU runs the same algorithms, and [complexity.md](complexity.md) has their "
    "counts.",
    "**Memory** is counted where the methods take it from the device: the peak of a pass beyond inputs, outputs, "
    "parameters and gradients, in numbers of four bytes. The workspace of cuBLAS, one for all sizes, is not counted. The "
    "device determines how many blocks sum separately, so memory is declared as O(…) and judged as an upper bound.",
    "**Times** are measured between two events of the stream. The stream is kept busy until every launch of the pass has "
    "been submitted, so the host's time for launching is not in them. Caches are as the previous pass has left them. The "
    "repetitions of all cases alternate in random order, by Google Benchmark, and a point is their median.",
)
JUDGEMENT = (
    "A claim is a sum of terms, and each term has a constant of its own. The constants are fitted: nonnegative, by least "
    "squares of the logarithms, **the same constants in all sweeps**. A time has two more terms: one for each call and, "
    "for declared costs, one for each number moved.",
    "**The claimed exponent** of a sweep is the slope of that fit in log-log coordinates. **The measured exponent** is "
    "the slope of the measurements at the same points. Its {confidence} % interval comes from a bootstrap over the "
    "repetitions; it is a single value where nothing varies. A sweep of m = n grows both sides together, which "
    "distinguishes m n from m + n.",
    "A claim **holds** if the interval lies within the margin around the claimed exponent. It **does not hold** if the "
    "interval lies outside. Otherwise the verdict is **cannot tell**, as it is for ranges shorter than a factor of "
    "{shortest}.",
    "O(…) is an upper bound: slower growth is no fault. A term whose share stays below {unseen} % is reported as not "
    "seen. Declared formulas must be met from both sides.",
    "Margins: {margins}. The number of parameters must equal the formula at every point.",
)
COVERAGE = (
    "**Coverage** is tested by descent (Adam, the better of two starts) towards three targets: M̂ = Q M with det Q = 1, "
    "M̂ = Q M with det Q = −1, and M̂ = Q M P. Q and P are uniform; M has order {order} and singular values from 1 to 2. A "
    "target is reached at a residual of {reached} % of its norm, and missed above {missed} %.",
)

LETTERS = (
    "The letters: M has m rows and n columns, and x holds t tokens. r is the rank of LoRA and DoRA, and the number of "
    "reflectors of HRA and of each side of HOFT and SHOFT. OFT's orthogonal matrix consists of blocks of order b. BOFT's "
    "is a product of k matrices of blocks, whose rows are permuted in between."
)
ROWS_AND_COLUMNS = (
    "**HOFT, two terms** computes the triangle of each side as the paper does, by two terms of a series, so its Q is only "
    "nearly orthogonal; **HOFT** computes it exactly. **Parameters** is how many numbers are trained."
)
COVERAGE_COLUMN = (
    "**Coverage** is the size at which, says the paper, a method reaches every orthogonal transform of M."
)
READINGS = (
    "Each complexity is judged in two readings. **One token** is y = M̂ x for one x, with the rotation made from its "
    "parameters: what the paper counts. **On the weight** is M̂ formed from M, as the formula M̂ = Q_U M Q_V reads and as "
    "fine-tuning also does it: the paper does not count that, so a verdict there says how far its formula carries, not that "
    "the paper errs."
)
WHO_MEASURES_FLOPS = "The counted flops give the verdict of a complexity; times stand beside them."
WHO_MEASURES_TIME = "The times give the verdict of a complexity, of the methods that exist here."
ONE_BY_ONE = (
    "HRA applies its reflections one after another; hoft applies blocks of them. The table has the time on the weight, "
    "and the time of HRA for one reflector over that of hoft."
)
ORTHOGONALITY = (
    "The table has orthogonality errors, ‖I − QᵀQ‖_F/√m. Of a square Q that is ‖I − QQᵀ‖_F/√m, which needs no product of "
    "order m: I − QQᵀ = U S Uᵀ with S = T + Tᵀ − T G Tᵀ and G = UᵀU, so the norm is √tr(G S G S). U and T are stored in double, and the trace is computed in long double. "
    "Rounding in products with Q adds to it. Values are medians over {seeds} seeds. "
    "[Mathematics](mathematics.md#the-truncated-inverse) has medians over more, of Q as a matrix, its rounding included."
)
SIDES = (
    "An orthogonal factor on the left keeps all distances between columns, and so their hyperspherical energy. A factor "
    "on the right mixes columns. All three forms keep the singular values when Q is orthogonal. The table has the "
    "relative change of the energy, and the largest change of a singular value, relative to the largest one.",
    "Left is Q_U M, M [longer, 64]. Right is M Q_V, M [64, longer], up to 1024 columns, because the energy of n columns "
    "takes n² m. Both is Q_U M Q_V, M [longer, 64]. Correlated columns share a direction.",
)
DESCENT = (
    "The table has residuals relative to the target after descent, medians over {seeds} seeds, order {order}. The last column is "
    "the processor time of the better start until its residual is below 1 %, if it gets there for every seed."
)
DECLARED = (
    "Each method declares formulas for flops, for memory and for the numbers it moves. {counts}. The tables have "
    "exponents, measured / declared. Exponents are judged; constants are shown, as counted / declared. Numbers moved are declared, not measured; times are judged by flops and numbers "
    "moved together. The formulas hold for ranks up to 64, one block of reflectors of hoft."
)
ONE_TOKEN = (
    "The complexity of HOFT for one token is judged on {methods}, which {apply} Q_V, M and Q_U one after the other, as the "
    "formula reads; the other columns on hoft's own passes."
)
METHODS = "The methods of these tables:"
IN_TURN = (
    "Here every pass makes what hoft needs once in an optimiser step: the forms, and M V of r columns, which has r / t of "
    "the work of M x. `hoft_in_turn` needs no M V, and so fewer flops. hoft has it because the base then takes the tokens "
    "as they are: a framework may have called it before, adapters may share one call, and fewer numbers are moved."
)
REDUCED = (
    "r / t is {small:.3g} at the reduced scale and {full:.2g} at the full one. So the times, which are measured at the "
    "reduced scale, show HOFT slower beside LoRA than it would be at the full one."
)
MODEL_MEMORY = (
    "Extra memory of HOFT is more than LoRA's. Between its passes a layer of HOFT keeps (5 m + 2 n) r numbers, which are "
    "its forms, what it binds and its sums, and 2 r t for the tokens; LoRA keeps r t. The rest of a peak is what the backward "
    "pass takes besides: r t for LoRA, more for HOFT. Outputs are counted for neither, but the backward pass of HOFT reads "
    "them, and that of LoRA does not. "
    "The tables count that rest for each layer, but one piece of memory can serve all layers, and is then small beside what "
    "HOFT keeps, which is {kept}. [Performance](performance.md#targets) has both parts of one layer in rows of their own. "
    "Times and machine are not those of that page: its table says which."
)
