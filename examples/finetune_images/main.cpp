// SPDX-License-Identifier: BSD-3-Clause
// finetune_images: a small network learns Fashion-MNIST, then adapts to the same images upside down with 1,000 labels,
// once each by full fine-tuning, LoRA, HOFT and SHOFT. `finetune_images --help` lists the options.
#include "report.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace finetune;

/// The saved network, read back: what is adapted is what another program would read.
checkpoint save_and_reload(checkpoint const& trained, std::filesystem::path const& folder) {
  trained.save(folder);
  checkpoint loaded = checkpoint::load(folder);
  for (std::size_t k = 0; k < depth; ++k)
    if (loaded.W[k] != trained.W[k] || loaded.b[k] != trained.b[k])
      throw std::runtime_error(folder.string() + ": the network read back differs from the one saved");
  return loaded;
}

/// @throws std::runtime_error if a merged network is not the one that was trained.
void require_merged_equal(std::vector<run> const& runs) {
  double error = 0, bound = 0, accuracy_change = 0;
  for (run const& r : runs) {
    error = worse(error, r.merge.error);
    bound = std::max(bound, r.merge.bound);
    accuracy_change = worse(accuracy_change, std::abs(r.merged_target - r.target));
    if (!r.merge.good())
      throw std::runtime_error(name(r.how) + ", seed " + std::to_string(r.seed) +
                               ": the merged weights differ from the trained layers by " +
                               std::to_string(r.merge.error) + " of |W| |x|, more than rounding explains");
  }
  std::printf(
      "\nMerged weights against the layers as trained: largest difference %.1e of |W| |x| (rounding may reach %.1e);\n"
      "largest change of the target accuracy %.2f %%.\n",
      error, bound, accuracy_change);
}

void run_experiment(settings const& plan, std::filesystem::path const& data_folder,
                    std::filesystem::path const& out_folder) {
  std::filesystem::create_directories(out_folder);
  dataset const data = read_dataset(data_folder);
  std::printf("Fashion-MNIST: %td training and %td test images from %s\n", data.train.size(), data.source_test.size(),
              data_folder.c_str());

  checkpoint const source = save_and_reload(train_source(data, plan.source), out_folder / "source");
  random_engine unused;
  network frozen = adapted(source, method::frozen, {}, unused);
  double const source_accuracy = accuracy(frozen, data.source_test);
  std::printf("source network: %.2f %% of the upright test images, %.2f %% upside down; saved as %s\n", source_accuracy,
              accuracy(frozen, data.target_test), (out_folder / "source" / "*.npy").c_str());

  std::vector<trial> const trials = try_rates(data, source, plan);
  for (method const how : plan.methods) {
    float const rate = best_rate(trials, how);
    if (how == method::frozen) continue;
    std::printf("  %-6s", name(how).c_str());
    for (trial const& t : trials)
      if (t.how == how)
        std::printf("  %.0e: %.1f%s", static_cast<double>(t.rate), t.validation, t.rate == rate ? "*" : " ");
    std::printf("%s\n", rate == plan.rates.front() || rate == plan.rates.back() ? "  (at the edge of the grid)" : "");
  }

  std::vector<run> const runs = adapt_all(data, source, plan, trials);
  write_csv(out_folder / "results.csv", runs);
  write_json(out_folder / "results.json", runs, trials, source, source_accuracy, plan);
  print_table(runs, plan);
  std::printf(
      "\n%td labels, rank %td, both hidden weights adapted, biases and last layer frozen, %d epochs of batches of "
      "%td.\n"
      "Accuracies on the 10,000 test images: mean and standard deviation over %d seed(s), each with labels, start and\n"
      "order of its own. Rates: best mean accuracy on held-out labels, %d of 5 folds of %td in turn, never on the test "
      "set.\n"
      "Seconds: processor time of one training, one thread, without measurements. The last two: worst over seeds, "
      "layers.\n",
      labels, plan.start.rank, plan.target.epochs, plan.target.batch, plan.seeds, plan.folds, held_out);
  require_merged_equal(runs);
  std::printf("Results: %s, results.json\n", (out_folder / "results.csv").c_str());
}

}  // namespace

int main(int argc, char** argv) {
  settings plan;
  unsigned const cores = std::max(1u, std::thread::hardware_concurrency());
  plan.threads = cores;
  bool quick = false;
  std::vector<std::string> names = method_names;
  std::filesystem::path data = "/usr/share/datasets/fashion-mnist", out = "build/finetune_images";

  CLI::App app{
      "Trains 784-256-256-10 on Fashion-MNIST, then adapts it to the images upside down with 1,000 labels by full\n"
      "fine-tuning, LoRA, HOFT and SHOFT, and compares them."};
  app.add_option("--rank", plan.start.rank, "rank of LoRA, reflectors on each side of HOFT and SHOFT; even")
      ->check(CLI::Range(2, static_cast<int>(hidden)))
      ->check([](std::string const& text) {
        return (text.back() - '0') % 2 == 0 ? std::string() : "must be even: HOFT's vectors start in equal pairs";
      })
      ->capture_default_str();
  app.add_option("--std", plan.start.deviation, "standard deviation that reflectors of HOFT and SHOFT start with")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--method", names, "method to run; repeat it for several")
      ->check(CLI::IsMember(method_names))
      ->take_all()
      ->capture_default_str();
  auto* const seeds = app.add_option("--seeds", plan.seeds, "repetitions, with seeds 1, 2, ...")
                          ->check(CLI::Range(1, 1000))
                          ->capture_default_str();
  app.add_option("--threads", plan.threads, "trainings at a time; the results do not depend on it")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_flag("--quick", quick, "shorter trainings, fewer rates, 2 seeds: under 3 minutes on 2 cores");
  app.add_option("--data", data, "folder of the gzip IDX files")->capture_default_str();
  app.add_option("--out", out, "folder for the results, made if missing")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  if (quick) {
    int const chosen = plan.seeds;
    plan.make_quick();
    if (seeds->count() > 0) plan.seeds = chosen;
  }
  plan.methods.clear();
  for (std::size_t i = 0; i < method_names.size(); ++i)
    if (std::ranges::find(names, method_names[i]) != names.end()) plan.methods.push_back(static_cast<method>(i));
  try {
    run_experiment(plan, data, out);
  } catch (std::exception const& trouble) {
    std::fflush(stdout);
    std::fprintf(stderr, "finetune_images: %s\n", trouble.what());
    return 1;
  }
}
