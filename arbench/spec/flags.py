"""Flags of numbers: what each code means, for reports and the terminal."""

from __future__ import annotations

FLAGS = {
    # of the sample
    "rank_deficient": "fewer images than dimensions, so the covariance is singular",
    "small_n": "fewer than 10 images per dimension: the value is biased upwards and compares at equal n only",
    "few_tokens": "too few tokens for the size of the codebook: unused codes may only be rare",
    "classes_missing": "some classes have too few images and are left out of the mean",
    "some_too_small": "images too small for this metric are left out",
    # of the estimator
    "no_interval": "no error bar belongs to this estimator, or there are too few values for one",
    "heavy_tails": "a few samples decide this number, so its error cannot be told from the others: no error bar",
    "identical_pairs": "some pairs are identical, and count as one value off by one; the tools' own mean is infinite",
    "bias_corrected": "the bias of few samples is estimated and taken off",
    "extrapolated": "not a distance at any number of samples",
    "memorisation": "samples lie so close to images of the reference that the distance is raised by a penalty",
    "tool_has_no_root": "the tool itself fails on these covariances; this is the exact distance",
    "exact": "not with the tool's own float32 sums (too many vectors for them, or on a GPU); this is the exact value",
    "data_range_2": "this convention's SSIM assumes a range twice as large as the data's",
    # of weights
    "unofficial_weights": "the weight file is none of those in circulation, so no published number compares",
    "weights_differ": "the reference was made with other weights of the feature network",
    "smaller_batch": "memory ran out, so it was computed with a smaller batch than asked for",
    "random_weights": "the model has random weights: only shapes and work are real",
    # of samples and reference together
    "reference_is_val": "generated images are compared with a validation set, not the training set",
    "reference_is_train": "reconstructions are compared with a training set, not with their originals",
    "size_differs": "samples and reference are of different sizes",
    "crop_differs": "samples and reference were cropped in different ways",
    "quantisation_differs": "one of the two sets went through bytes or JPEG and the other did not",
    "count_differs": "the number of samples is not that of the reference or of published numbers",
    "labels_unbalanced": "classes have different numbers of samples",
    "classes_absent": "some samples are of classes that the reference does not have, so none of its images agrees",
    "labels_sorted": "the samples are sorted by class, and this score depends on their order",
    "same_images": "samples and reference are the same images",
    "paired_by_place": "names are numbered apart in the two sets, so images at the same place were taken for pairs",
    "alpha_over_white": "transparent pixels were read over white; the tools drop the alpha channel",
    "upper_8_bits": "the upper 8 of 16 bits were read; the tools clip grey ones at 255",
    "more_files_than_the_tool": "images were read that the convention's tool, run without options, leaves out",
    "files_passed_over": "beside the images are files that may be images or arrays, and are not read",
    # of timings and memory
    "warmup_unsettled": "calls were still getting faster or slower when measuring began",
    "few_calls": "time ran out before the least number of calls",
    "wide_interval": "time ran out before the interval of the median was as narrow as asked",
    "repeated_output": "calls with other seeds gave the same output: a cache may have been timed",
    "busy": "other processes were at work on the machine meanwhile",
    "stolen_time": "the host took processor time from this virtual machine meanwhile",
    "throttled": "the GPU had lowered its clocks: power limit or heat",
    "device_shared": "other processes used the same GPU",
    "idle_differs": "the idle device took more power before the calls than after them, or less, by a tenth",
    "drift": "calls got slower or faster while they were measured",
    "probe_overhead": "marking phases slowed the call down, so phases are too long",
    "open_phases": "the phases do not add up to the call: part of it is outside of all",
    "eager_phases": "phases are of calls that were not replayed: a CUDA graph shows none",
    "above_limit": "faster than the limit: what must be read lies in a cache that is faster than memory",
    "after_larger_batch": "measured after a larger batch, whose memory may not have been given back",
    "search_ended": "the largest batch that was tried fits, so larger ones may",
    "leak": "memory in use grew with each call",
    "peak_of_process": "the peak of the whole process, not of this call alone",
}
"""Code -> what it means. Where a result's remarks say more of a code, they are shown."""
